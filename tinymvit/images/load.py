"""A picture, however it comes, becomes one array of pixels (C, H, W).

`load_image` takes files, PIL images and arrays, and refuses what is not a picture in one clear line. Pixels are levels
from 0 to 255, or fractions from 0 to 1 in an array of floats. Resizing, cropping and scaling for the network are left
to `processor`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tinymvit import limits
from tinymvit.checks import is_one_of
from tinymvit.errors import ImageError
from tinymvit.files import open_file, what_is
from tinymvit.images.silence import bombs_only, silence_libtiff
from tinymvit.numerics import Array, as_array
from tinymvit.text import short

ImageSource = str | os.PathLike[str] | Image.Image | Array

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
BAND_PIXELS = 2**20  # pixels that are converted at a time
# Bytes a pixel from the file to the array, as measured: an image of 4 bytes, and the array of 3 or the image turned.
PIXEL_BYTES = 8
# What decoders take that need more, and what they take beside it for each channel.
DECODERS = {"JPEG": (4, 2), "MPO": (4, 2), "WEBP": (16, 0), "JPEG2000": (5, 5), "AVIF": (12, 0)}
# Formats that Pillow gives to Ghostscript, to Windows, to somebody's handler, or (IPTC) to any of these; and one (ICNS)
# that holds pictures of which its header does not tell how large they are.
REFUSED = ("EPS", "WMF", "BUFR", "GRIB", "HDF5", "IPTC", "ICNS")
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
    if data_format is not None and not is_one_of(data_format, DATA_FORMATS):
        raise ImageError(f"data format {short(data_format)}, expected one of {', '.join(DATA_FORMATS)}")
    if isinstance(source, np.ndarray):
        return _array_pixels(as_array(source, name), convert_rgb, data_format, name)
    if isinstance(source, str | os.PathLike):
        return _in_bands(_open_upright(source), None, str(source))
    if isinstance(source, Image.Image):
        return _in_bands(_decoded(source, name), convert_rgb, name)
    raise TypeError(f"{name}: {type(source).__name__}, expected a path, a PIL image or a NumPy array")


def load_segmentation_map(source: ImageSource, *, name: str = "segmentation map") -> Array:
    """The class ids of `source`, (H, W) int32: a file or PIL image of one channel, or an array (H, W).

    A palette image gives its indices, as the masks of PASCAL VOC are stored. Raises ImageError, or TypeError for
    other types.
    """
    if isinstance(source, str | os.PathLike):
        name, ids = str(source), _ids(_open_upright(source), str(source))
    elif isinstance(source, Image.Image):
        ids = _ids(_decoded(source, name), name)
    elif isinstance(source, np.ndarray):
        ids = as_array(source, name)
    else:
        raise TypeError(f"{name}: {type(source).__name__}, expected a path, a PIL image or a NumPy array")
    if ids.ndim != 2 or ids.size == 0:
        raise ImageError(f"{name}: shape {ids.shape}, expected one class id a pixel, (H, W)")
    if ids.dtype.kind not in "buif":
        raise ImageError(f"{name}: dtype {ids.dtype}, expected whole numbers")
    with np.errstate(invalid="ignore"):  # NaN has no int32: found by the comparison
        labels = ids.astype(np.int32)
    if not np.can_cast(ids.dtype, np.int32) and not np.array_equal(labels, ids):
        raise ImageError(f"{name}: holds class ids that are not whole numbers of 32 bits")
    return labels


def _ids(image: Image.Image, name: str) -> Array:
    """The pixels of a decoded PIL image of one channel, (H, W), before they are known to be class ids."""
    if len(image.getbands()) != 1:
        shape = (image.height, image.width, len(image.getbands()))
        raise ImageError(f"{name}: shape {shape}, expected one class id a pixel, (H, W)")
    return np.asarray(image)


def is_fraction(pixels: Array) -> bool:
    """Whether white is 1 and not 255: floats of which none exceeds 1 (in a black picture it is all the same)."""
    return pixels.dtype.kind == "f" and 0 < pixels.max() <= 1


def to_pil(pixels: Array) -> Image.Image:
    """The pixels (C, H, W) of `load_image` as a PIL image of 8 bits: mode L, RGB or RGBA."""
    levels = _levels(pixels, 1 if is_fraction(pixels) else 255)
    return Image.fromarray(np.ascontiguousarray(levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)))


def rescale(pixels: Array, factor: float) -> Array:
    """pixels * factor in float32, multiplied in float64 and rounded once; infinite beyond float32."""
    rescaled = np.empty(pixels.shape, np.float32)
    with np.errstate(over="ignore"):
        np.multiply(pixels, factor, out=rescaled, dtype=np.float64, casting="unsafe")  # by parts: no array in float64
    return rescaled


def _open_upright(source: str | os.PathLike[str]) -> Image.Image:
    """The decoded first picture of a file, in its own mode, turned by its EXIF orientation."""
    path, name = Path(source), str(source)
    if what_is(path, ImageError) is None:
        raise ImageError(f"{name}: no such file")
    with open_file(path, ImageError, "an image file") as file, _decoding(name):
        with bombs_only():
            image = Image.open(file)
        _decode(image, name)
        with bombs_only():  # a damaged EXIF block warns too
            ImageOps.exif_transpose(image, in_place=True)
    return _not_empty(image, name)


def _decoded(image: Image.Image, name: str) -> Image.Image:
    """A caller's PIL image, which may be an open file that nobody has decoded yet."""
    with _decoding(name):
        _decode(image, name)
    return _not_empty(image, name)


def _decode(image: Image.Image, name: str) -> None:
    """Decode an open file, unless it is of a format that is not read or takes more memory than is allowed; an image
    that is decoded already stays as it is."""
    if image.format in REFUSED:
        raise ImageError(f"{name}: a file of format {image.format}, expected PNG, JPEG or another format of pictures")
    if image.format == "TIFF":
        silence_libtiff()
    with bombs_only():
        limits.check(_memory(image), f"{name}: {image.width} x {image.height} pixels", ImageError)
        image.load()


def _memory(image: Image.Image) -> int:
    """Bytes that it takes to make an array of an open file; of the caller's own image, in the memory already, none."""
    if image.format is None:
        return 0
    pixels = image.width * image.height
    whole, each = DECODERS.get(image.format, (0, 0))
    block = 0
    if image.format == "TIFF":  # a tile, or strip, may be larger than the picture, and is decoded whole
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        tile = tags[322] * tags[323] if 322 in tags and 323 in tags else 0
        block = max(tile, min(tags.get(278, image.height), image.height) * image.width) * sum(tags.get(258, (1,))) // 8
        whole = 4
    return max(pixels * PIXEL_BYTES, pixels * (whole + each * len(image.getbands())) + block)


def _not_empty(image: Image.Image, name: str) -> Image.Image:
    if 0 in image.size:
        raise ImageError(f"{name}: no pixels in {image.width} x {image.height}")
    return image


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes one ImageError; Pillow's decoders raise almost anything on broken files."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image in a format that Pillow can read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            f"{name}: more than {Image.MAX_IMAGE_PIXELS} pixels, perhaps a decompression bomb; "
            "if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except MemoryError:
        raise ImageError(f"{name}: no memory to decode it, expected a smaller picture") from None
    except Exception as error:
        raise ImageError(f"{name}: damaged image: {str(error) or type(error).__name__}") from None


def _in_bands(image: Image.Image, convert_rgb: bool | None, name: str) -> Array:
    """The pixels (C, H, W) of a decoded PIL image of any mode: RGB, or if `convert_rgb` is False also grey or RGBA.

    A band of rows is converted at a time: the whole in each mode on the way would take three times the memory.
    """
    kept = convert_rgb is False and image.mode in ("L", "RGB", "RGBA")
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    shallow = _deep_grey(image, name) if deep else _straight_alpha
    pixels = None
    for top, bottom, band in _bands(image):
        with _decoding(name):  # an index of a palette may be out of range
            array = np.asarray(band if kept else _to_rgb(shallow(band), over_white=convert_rgb is True))
        if pixels is None:
            pixels = np.empty((image.height, *array.shape[1:]), np.uint8)
        pixels[top:bottom] = array
    assert pixels is not None  # an image has rows
    return _channels_first(pixels)


def _bands(image: Image.Image) -> Iterator[tuple[int, int, Image.Image]]:
    """Bands of whole rows, from the top: the first row, the one behind the last, and the band."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield top, bottom, image if rows >= image.height else image.crop((0, top, image.width, bottom))


def _to_rgb(image: Image.Image, over_white: bool) -> Image.Image:
    """A PIL image of any mode of 8 bits in mode RGB, its transparency dropped or blended onto white."""
    if over_white and ("A" in image.getbands() or "transparency" in image.info):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode == "P":
        image = image.convert("RGBA")  # straight to RGB, Pillow warns that a transparency is lost
    return image if image.mode == "RGB" else image.convert("RGB")


def _straight_alpha(image: Image.Image) -> Image.Image:
    """Colours as they were before they were multiplied by alpha (modes La and RGBa, which convert to nothing else)."""
    return image.convert(image.mode.upper()) if image.mode in ("La", "RGBa") else image


def _deep_grey(image: Image.Image, name: str) -> Callable[[Image.Image], Image.Image]:
    """What makes bands of 8 bits of a grey picture's bands of 16-bit, 32-bit or float pixels, where Pillow would clip
    everything above 255.

    I;16 holds 16 bits. Pillow fills mode I from 8-bit pictures and from 16-bit files alike: it holds 16 bits if any
    pixel exceeds 255. Mode F is an array of floats.
    """
    ranges = [(levels.min(), levels.max()) for levels in (np.asarray(band) for _, _, band in _bands(image))]
    low, high = np.array(ranges).min(), np.array(ranges).max()  # NaN if one is
    sixteen_bits = image.mode != "F" and (image.mode != "I" or high > 255)
    if sixteen_bits and (low < 0 or high > 65535):
        raise ImageError(f"{name}: pixels from {low} to {high}, expected 16 bits, 0 to 65535")
    if not sixteen_bits:
        _check_range(low, high, name)
    white = 1 if image.mode == "F" and 0 < high <= 1 else 255

    def shallow(band: Image.Image) -> Image.Image:
        levels = np.asarray(band)
        return Image.fromarray(_levels(levels >> 8 if sixteen_bits else levels, white))

    return shallow


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
    limits.check(pixels.size * PIXEL_BYTES // 3, f"{name}: shape {pixels.shape}", ImageError)  # what is made of them
    _check_range(pixels.min(), pixels.max(), name)
    return pixels


def _check_range(low: Any, high: Any, name: str) -> None:
    """Refuse pixels of which `low` and `high` are the smallest and the largest; NaN, if one is."""
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError(f"{name}: holds NaN or infinity")
    if low < 0 or high > 255:
        raise ImageError(f"{name}: pixels from {low} to {high}, expected 0 to 255, or 0 to 1")


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


def _levels(pixels: Array, white: int) -> Array:
    """Pixels in 8 bits, whose `white` is 1 or 255. Fractions are cut off, not rounded, as transformers does before it
    resizes."""
    if white == 1:
        return rescale(pixels, 255).astype(np.uint8)
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels).astype(np.uint8)
