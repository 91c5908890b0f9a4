"""A picture, however it comes, becomes one array of pixels (C, H, W).

`load_image` takes files, PIL images and arrays, and refuses what is not a picture in one clear line. Pixels are levels
from 0 to 255, or fractions from 0 to 1 in an array of floats. Resizing, cropping and scaling for the network are left
to `processor`.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tinymvit.errors import ImageError
from tinymvit.numerics import Array

ImageSource = str | os.PathLike[str] | Image.Image | Array

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
DATA_FORMATS = ("channels_first", "channels_last")


def load_image(
    source: ImageSource, *, convert_rgb: bool | None = None, data_format: str | None = None, name: str = "image"
) -> Array:
    """The pixels of `source`, (C, H, W): uint8 from files and PIL images, an array's own dtype from arrays.

    source: a path; a PIL image of any mode; or an array of integers from 0 to 255, or floats from 0 to 255 or 0 to 1,
        of shape (H, W, C), (C, H, W) or, grey, (H, W), with C = 1, 3 or 4. An array that can be read as both is taken
        as (C, H, W), unless `data_format` says "channels_last". Files are turned upright by their EXIF orientation.
    convert_rgb: None: files and PIL images become RGB and lose their transparency; arrays keep their channels, and
        those without a channel axis become RGB. True: everything becomes RGB, with a PIL image's or array's
        transparency blended onto white. False: arrays and PIL images of mode L, RGB or RGBA keep their channels.
    name: what error messages call the source, unless it is a path.

    Raises ImageError for what cannot be read as a picture, TypeError for other types.
    """
    if data_format not in (None, *DATA_FORMATS):
        raise ImageError(f"data format {data_format!r}, expected one of {', '.join(DATA_FORMATS)}")
    if isinstance(source, np.ndarray):
        return _array_pixels(source, convert_rgb, data_format, name)
    if isinstance(source, str | os.PathLike):
        return _channels_first(np.asarray(_to_rgb(_open_upright(source), str(source))))
    if isinstance(source, Image.Image):
        return _channels_first(np.asarray(_picture_bands(_decoded(source, name), convert_rgb, name)))
    raise TypeError(f"{name}: {type(source).__name__}, expected a path, a PIL image or a NumPy array")


def load_segmentation_map(source: ImageSource, *, name: str = "segmentation map") -> Array:
    """The class ids of `source`, (H, W) int32: a file or PIL image of one channel, or an array (H, W).

    A palette image gives its indices, as the masks of PASCAL VOC are stored. Raises ImageError, or TypeError for
    other types.
    """
    if isinstance(source, str | os.PathLike):
        name, ids = str(source), np.asarray(_open_upright(source))
    elif isinstance(source, Image.Image):
        ids = np.asarray(_decoded(source, name))
    elif isinstance(source, np.ndarray):
        ids = source
    else:
        raise TypeError(f"{name}: {type(source).__name__}, expected a path, a PIL image or a NumPy array")
    if ids.ndim != 2 or ids.size == 0:
        raise ImageError(f"{name}: shape {ids.shape}, expected one class id a pixel, (H, W)")
    if ids.dtype.kind not in "buif":
        raise ImageError(f"{name}: dtype {ids.dtype}, expected whole numbers")
    with np.errstate(invalid="ignore"):  # NaN has no int32: found by the comparison
        labels = ids.astype(np.int32)
    if not np.array_equal(labels, ids):
        raise ImageError(f"{name}: holds class ids that are not whole numbers of 32 bits")
    return labels


def is_fraction(pixels: Array) -> bool:
    """Whether white is 1 and not 255: floats of which none exceeds 1 (in a black picture it is all the same)."""
    return pixels.dtype.kind == "f" and 0 < pixels.max() <= 1


def to_pil(pixels: Array) -> Image.Image:
    """The pixels (C, H, W) of `load_image` as a PIL image of 8 bits: mode L, RGB or RGBA."""
    levels = _levels(pixels)
    return Image.fromarray(np.ascontiguousarray(levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)))


def rescale(pixels: Array, factor: float) -> Array:
    """pixels * factor in float32, multiplied in float64 and rounded once."""
    return (pixels.astype(np.float64) * factor).astype(np.float32)


def _open_upright(source: str | os.PathLike[str]) -> Image.Image:
    """The decoded first picture of a file, in its own mode, turned by its EXIF orientation."""
    path, name = Path(source), str(source)
    if path.is_dir():
        raise ImageError(f"{name}: is a folder, expected an image file")
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise ImageError(f"{name}: cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    with file, _decoding(name):
        with _bombs_only():
            image = Image.open(file)
        _decode(image)
        with _bombs_only():  # a damaged EXIF block warns too
            ImageOps.exif_transpose(image, in_place=True)
    return _not_empty(image, name)


def _decoded(image: Image.Image, name: str) -> Image.Image:
    """A caller's PIL image, which may be an open file that nobody has decoded yet."""
    with _decoding(name):
        _decode(image)
    return _not_empty(image, name)


def _decode(image: Image.Image) -> None:
    with _bombs_only() if image.format in ("ICO", "TIFF") else nullcontext():  # the others do not warn here
        image.load()


def _not_empty(image: Image.Image, name: str) -> Image.Image:
    if 0 in image.size:
        raise ImageError(f"{name}: no pixels in {image.width} x {image.height}")
    return image


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes one ImageError; Pillow's decoders raise almost anything on broken files."""
    try:
        yield
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image in a format that Pillow can read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            f"{name}: more than {Image.MAX_IMAGE_PIXELS} pixels, perhaps a decompression bomb; "
            "if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except Exception as error:
        raise ImageError(f"{name}: damaged image: {str(error) or type(error).__name__}") from None


_filters_lock = threading.Lock()  # warning filters belong to the process: two threads would restore each other's
if hasattr(os, "register_at_fork"):  # a child would have the filters, and the lock, of a thread that it has not
    _release = _filters_lock.release
    os.register_at_fork(before=_filters_lock.acquire, after_in_parent=_release, after_in_child=_release)


@contextmanager
def _bombs_only() -> Iterator[None]:
    """Pillow's warnings are silent inside, but for the one about decompression bombs, which is raised."""
    with _filters_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _picture_bands(image: Image.Image, convert_rgb: bool | None, name: str) -> Image.Image:
    """A PIL image of any mode in mode RGB; if `convert_rgb` is False, also L or RGBA."""
    if convert_rgb is False and image.mode in ("L", "RGB", "RGBA"):
        return image
    image = _straight_alpha(image)
    if convert_rgb and ("A" in image.getbands() or "transparency" in image.info):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return _to_rgb(image, name)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """A PIL image of any mode in mode RGB, with its transparency dropped."""
    image = _straight_alpha(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _deep_grey(image, name)
    elif image.mode == "P":
        image = image.convert("RGBA")  # straight to RGB, Pillow warns that a transparency is lost
    return image.convert("RGB")


def _straight_alpha(image: Image.Image) -> Image.Image:
    """Colours as they were before they were multiplied by alpha (modes La and RGBa, which convert to nothing else)."""
    return image.convert(image.mode.upper()) if image.mode in ("La", "RGBa") else image


def _deep_grey(image: Image.Image, name: str) -> Image.Image:
    """A grey picture of 16-bit, 32-bit or float pixels in 8 bits, where Pillow would clip everything above 255.

    I;16 holds 16 bits. Pillow fills mode I from 8-bit pictures and from 16-bit files alike: it holds 16 bits if any
    pixel exceeds 255. Mode F is an array of floats.
    """
    levels = np.asarray(image)
    if image.mode != "F" and (image.mode != "I" or levels.max() > 255):
        if levels.min() < 0 or levels.max() > 65535:
            raise ImageError(f"{name}: pixels from {levels.min()} to {levels.max()}, expected 16 bits, 0 to 65535")
        levels = levels >> 8
    return to_pil(_checked_pixels(levels, name)[None])


def _array_pixels(array: Array, convert_rgb: bool | None, data_format: str | None, name: str) -> Array:
    if array.ndim == 2:
        grey = _checked_pixels(array, name)[None]
        return grey if convert_rgb is False else np.repeat(grey, 3, axis=0)
    axes = {"channels_first": (0,), "channels_last": (2,), None: (0, 2)}[data_format]
    axis = next((axis for axis in axes if array.ndim == 3 and array.shape[axis] in CHANNELS), None)
    if axis is None:
        shapes = "(H, W) or " + " or ".join("(C, H, W)" if axis == 0 else "(H, W, C)" for axis in axes)
        raise ImageError(f"{name}: shape {array.shape}, expected {shapes} with C = 1, 3 or 4")
    pixels = np.moveaxis(_checked_pixels(array, name), axis, 0)  # (C, H, W)
    return _over_white(pixels) if convert_rgb else pixels


def _checked_pixels(pixels: Array, name: str) -> Array:
    if pixels.dtype.kind not in "uif":
        raise ImageError(f"{name}: dtype {pixels.dtype}, expected uint8, another integer type or floats")
    if pixels.size == 0:
        raise ImageError(f"{name}: no pixels in shape {pixels.shape}")
    low, high = pixels.min(), pixels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError(f"{name}: holds NaN or infinity")
    if low < 0 or high > 255:
        raise ImageError(f"{name}: pixels from {low} to {high}, expected 0 to 255, or 0 to 1")
    return pixels


def _over_white(pixels: Array) -> Array:
    """Grey, RGB or RGBA pixels (C, H, W) as RGB (3, H, W), a fourth channel being the opacity over a white ground."""
    if len(pixels) == 1:
        return np.repeat(pixels, 3, axis=0)
    if len(pixels) == 3:
        return pixels
    white: Any = 1.0 if is_fraction(pixels) else 255
    opacity = pixels[3] / white
    blend = opacity * pixels[:3] + (1 - opacity) * white
    return (blend if pixels.dtype.kind == "f" else np.round(blend)).astype(pixels.dtype)


def _channels_first(array: Array) -> Array:
    """(H, W) or (H, W, C) to (C, H, W)."""
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _levels(pixels: Array) -> Array:
    """Pixels in 8 bits. Fractions are cut off, not rounded, as transformers does before it resizes."""
    if is_fraction(pixels):
        return rescale(pixels, 255).astype(np.uint8)
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels).astype(np.uint8)
