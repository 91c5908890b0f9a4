"""An image becomes numbers: `MobileViTImageProcessor`, the step before the network and the one after it.

Before: resize, crop the centre, scale to 0..1, swap red and blue, stack into a batch (B, C, H, W). After: scores per
class become a map of class ids, at the size asked for. With the same settings the numbers equal those of transformers'
`MobileViTImageProcessorPil` bit for bit. Reading files and the many kinds of images is left to `load`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from tinymvit import checks, kernels, limits
from tinymvit.checks import is_positive_integer
from tinymvit.config import MobileViTConfig
from tinymvit.errors import ConfigError, ImageError
from tinymvit.files import json_writer, named_json, read_json, write_files
from tinymvit.images.load import ImageSource, is_fraction, load_image, load_segmentation_map, rescale, to_pil
from tinymvit.numerics import NUMBERS, Array, as_array
from tinymvit.presets import PROCESSOR_SIZES
from tinymvit.text import short
from tinymvit.weights import Checkpoint, open_checkpoint
from tinymvit.weights.families.transformers import PROCESSOR_FILE

PIXEL_BYTES = 20  # bytes for each pixel of a resized or cropped image: Pillow's 4, 3 in uint8, 12 in float32
BAND_NUMBERS = 2**22  # numbers of the logits that are resized at a time, in whole rows
TYPE_NAMES = ("MobileViTImageProcessor", "MobileViTImageProcessorFast", "MobileViTFeatureExtractor")


class BatchFeature(dict[str, Any]):
    """What the processor returns, for `model(**inputs)`: a dict whose entries are attributes too."""

    @property
    def pixel_values(self) -> Any:
        """(B, C, H, W), or a list of (C, H, W) when the images differ in size."""
        return self["pixel_values"]

    @property
    def labels(self) -> Any:
        """(B, H, W) int64, or a list of (H, W); None if no segmentation maps were given."""
        return self.get("labels")


@dataclass(frozen=True)
class SemanticSegmentation:
    """One image's `segmentation`, (H, W) int64 class ids, and `segmentation_scores`, (K, H, W) float32 logits."""

    segmentation: Array
    segmentation_scores: Array


@dataclass(init=False)
class MobileViTImageProcessor:
    """Images of any kind to `pixel_values` as MobileViT was trained on them. Settings are checked on construction.

    The fields are those of transformers' processor, with two other defaults: the filter is bilinear, as in training,
    and every PIL image becomes RGB. Keys that transformers writes but MobileViT does not use are accepted, and
    `do_flip_channels`, the old name of `do_flip_channel_order`. Raises ConfigError naming the field, its value and
    what was expected.
    """

    do_resize: bool = True
    # {"shortest_edge": n} or n keeps the proportions, {"height": h, "width": w} does not.
    size: dict[str, int] = field(default_factory=lambda: dict(PROCESSOR_SIZES["size"]))
    resample: Image.Resampling = Image.Resampling.BILINEAR  # Pillow's filter or its number
    do_center_crop: bool = True
    # {"height": h, "width": w}, or n for a square. A smaller image gets a border of zeros.
    crop_size: dict[str, int] = field(default_factory=lambda: dict(PROCESSOR_SIZES["crop_size"]))
    do_rescale: bool = True
    rescale_factor: float = 1 / 255  # of pixels from 0 to 255; floats from 0 to 1 count as 255ths
    do_flip_channel_order: bool = True  # RGB to BGR, as the published checkpoints were trained
    do_reduce_labels: bool = False  # in segmentation maps: class n to n - 1, and 0, the background, to 255, ignored
    do_convert_rgb: bool | None = None  # see `images.load.load_image`

    def __init__(self, **settings: Any) -> None:
        settings = {name: value for name, value in _known_settings(settings).items() if value is not None}
        for spec in fields(self):
            default = spec.default if spec.default_factory is MISSING else spec.default_factory()
            setattr(self, spec.name, _RULES[spec.name](spec.name, settings.get(spec.name, default)))

    def __call__(
        self,
        images: ImageSource | Sequence[ImageSource],
        segmentation_maps: ImageSource | Sequence[ImageSource] | None = None,
        **options: Any,
    ) -> BatchFeature:
        """The same as `preprocess`."""
        return self.preprocess(images, segmentation_maps, **options)

    def preprocess(
        self,
        images: ImageSource | Sequence[ImageSource],
        segmentation_maps: ImageSource | Sequence[ImageSource] | None = None,
        *,
        return_tensors: str | None = None,
        input_data_format: str | None = None,
        **settings: Any,
    ) -> BatchFeature:
        """One image or a list of them, and perhaps as many segmentation maps, to a batch.

        images: what `images.load.load_image` takes, a list of that, or an array (B, H, W, C) or (B, C, H, W).
        segmentation_maps: paths, PIL images or arrays (H, W) of class ids, each as large as its image.
        return_tensors: None, or "np" to insist on one array: then results of several sizes are an error.
        input_data_format: "channels_first" or "channels_last", for arrays that can be read as both.
        settings: fields of the processor, changed for this call. A switch that is None is off, as in transformers.

        Returns `pixel_values`, (B, C, H, W) float32 (without do_rescale, of the images' own dtype), and `labels`,
        (B, H, W) int64, if there were maps. Raises ImageError, ConfigError, TypeError.
        """
        if return_tensors is not None and not checks.is_one_of(return_tensors, ["np"]):
            raise ConfigError(
                f"return_tensors: {short(return_tensors)}, expected 'np' or None: tinymvit uses NumPy arrays"
            )
        changed = self._replace(settings)
        batch: dict[str, list[Array]] = {"pixel_values": []}
        shapes = []
        for name, source in _by_name(images, "image", dimensions=3).items():
            pixels = load_image(source, convert_rgb=changed.do_convert_rgb, data_format=input_data_format, name=name)
            shapes.append(pixels.shape[1:])
            batch["pixel_values"].append(changed._network_input(pixels, name))
        if segmentation_maps is not None:
            maps = _by_name(segmentation_maps, "segmentation map", dimensions=2)
            if len(maps) != len(shapes):
                raise ImageError(f"segmentation maps: {len(maps)}, expected one for each of {len(shapes)} images")
            batch["labels"] = []
            for index, ((name, source), shape) in enumerate(zip(maps.items(), shapes, strict=True)):
                ids = load_segmentation_map(source, name=name)
                if ids.shape != shape:
                    raise ImageError(f"segmentation map {index}: shape {ids.shape}, expected its image's {shape}")
                batch["labels"].append(changed._network_labels(ids, name))
        return BatchFeature({name: _stack(arrays, name, return_tensors) for name, arrays in batch.items()})

    def _network_input(self, pixels: Array, name: str) -> Array:
        """One image's pixels (C, H, W) as the network sees them."""
        factor = self.rescale_factor * (255 if is_fraction(pixels) else 1)
        if self.do_resize:
            pixels = resize(pixels, *self._resized_shape(pixels, name), self.resample)
        if self.do_center_crop:
            pixels = center_crop(pixels, **self.crop_size)
        if self.do_rescale:
            pixels = rescale(pixels, factor)
        if self.do_flip_channel_order:
            pixels = pixels[::-1]
        return pixels

    def _network_labels(self, ids: Array, name: str) -> Array:
        """One map of class ids (H, W), moved as its image is, but never blended: a class between two is another."""
        if self.do_resize:
            height, width = self._resized_shape(ids, name)
            ids = np.asarray(Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST))
        if self.do_reduce_labels:
            ids = np.where((ids == 0) | (ids == 255), 255, ids - 1)
        if self.do_center_crop:
            ids = center_crop(ids, **self.crop_size)
        return ids.astype(np.int64)

    def _resized_shape(self, pixels: Array, name: str) -> tuple[int, int]:
        """(H, W) of pixels (..., H, W) after resizing."""
        height, width = pixels.shape[-2:]
        if "shortest_edge" in self.size:
            short = self.size["shortest_edge"]
            long = int(short * max(height, width) / min(height, width))
            shape = (long, short) if height > width else (short, long)
        else:
            shape = self.size["height"], self.size["width"]
        what = f"{name}: {height} x {width} resized to {shape[0]} x {shape[1]}"
        limits.check(math.prod(shape) * PIXEL_BYTES, what, ImageError)
        return shape

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: Sequence[Sequence[int]] | Array | None = None,
        return_segmentation_scores: bool = False,
    ) -> list[Any]:
        """The best class of each pixel: a list of B maps, (H, W) int64.

        outputs: what `MobileViTForSemanticSegmentation` returns: its `.logits`, (B, K, H, W), count.
        target_sizes: (height, width) of each map, for instance its image's own: the logits are resized bilinearly
            before the best is taken. By default, maps have the size of the logits.
        return_segmentation_scores: return the (resized) logits too, as a list of `SemanticSegmentation`.

        Source: the method of this name in transformers. Raises ConfigError.
        """
        logits = as_array(getattr(outputs, "logits", None), "outputs.logits", NUMBERS)
        with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite
            logits = logits.astype(np.float32, copy=False)
        if logits.ndim != 4 or 0 in logits.shape:
            raise ConfigError(f"outputs.logits: shape {logits.shape}, expected (B, K, H, W)")
        scores = list(logits)  # B times (K, H, W)
        if target_sizes is not None:
            if not _is_sequence(target_sizes):
                raise ConfigError("target_sizes: expected a list of (height, width), one for each image")
            if len(target_sizes) != len(scores):
                raise ConfigError(
                    f"target_sizes: {len(target_sizes)} sizes, expected one for each of {len(scores)} images"
                )
            sizes = [_target_size(size) for size in target_sizes]
            kept = 8 + (4 * logits.shape[1] if return_segmentation_scores else 0)  # bytes for each pixel
            for height, width in sizes:  # each by itself: a caller who has the logits of a batch wants all its maps
                row = 4 * logits.shape[1] * width
                limits.check(kept * height * width + row, f"target_sizes: a map of {height} x {width}", ConfigError)
            if not return_segmentation_scores:
                return [_best_of_resized(*each) for each in zip(scores, sizes, strict=True)]
            scores = [_resized(*each) for each in zip(scores, sizes, strict=True)]
        maps = [image.argmax(axis=0) for image in scores]
        if return_segmentation_scores:
            return [SemanticSegmentation(*pair) for pair in zip(maps, scores, strict=True)]
        return maps

    @classmethod
    def from_pretrained(cls, name: str | Path | Checkpoint, **settings: Any) -> Self:
        """The processor of a checkpoint (anything `weights.open_checkpoint` takes) or in a JSON file, `settings`
        changed.

        A checkpoint that says nothing of it gets what the published ones share: the configuration's image_size, cropped
        from images whose shorter side is 32 pixels longer. Raises ConfigError naming the file, CheckpointError when
        there is no such checkpoint.
        """
        path = named_json(name)
        if path is None:
            checkpoint = open_checkpoint(name)
            if checkpoint.processor is None:
                height, width = MobileViTConfig.from_pretrained(checkpoint).image_shape
                crop = {"height": height, "width": width}
                flips = checkpoint.channel_order == "BGR"
                default = cls(size=max(height, width) + 32, crop_size=crop, do_flip_channel_order=flips)
                return default._replace(settings)
            path, values, _ = checkpoint.processor
        else:
            values = read_json(path, ConfigError)
        try:
            processor = cls.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        return processor._replace(settings)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **settings: Any) -> Self:
        """The processor that a parsed `preprocessor_config.json` describes, `settings` changed.

        As in transformers, a switch (`do_resize`, ...) that is null is off. Raises ConfigError.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"from_dict: a {type(values).__name__}, expected a mapping of option names to values")
        return cls()._replace(values)._replace(settings)

    def to_dict(self) -> dict[str, Any]:
        """The content of a `preprocessor_config.json`, as transformers reads it."""
        values: dict[str, Any] = {name: value for name, value in vars(self).items() if value is not None}
        values |= {"size": dict(self.size), "crop_size": dict(self.crop_size), "resample": int(self.resample)}
        return values | {"image_processor_type": TYPE_NAMES[0]}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `preprocessor_config.json` into `folder`, made if need be. Raises OutputError."""
        write_files(folder, {PROCESSOR_FILE: json_writer(self.to_dict())})

    def _replace(self, settings: Mapping[str, Any]) -> Self:
        """A copy with some fields changed; checked even where none is, for fields may have been assigned to."""
        changed = vars(self) | _known_settings(settings)
        for name, value in changed.items():
            if value is None and _RULES[name] is checks.boolean:
                changed[name] = False
            elif value is None and name in _USED_BY and changed[_USED_BY[name]]:
                raise ConfigError(f"{name}: None, expected a value where {_USED_BY[name]} is true")
        return type(self)(**changed)


MobileViTFeatureExtractor = MobileViTImageProcessor  # its name in transformers until 2022


def resize(pixels: Array, height: int, width: int, resample: Image.Resampling) -> Array:
    """Pixels (C, H, W) at another size, by Pillow and so in 8 bits: uint8, or float32 if they were fractions of 1."""
    resized = np.asarray(to_pil(pixels).resize((width, height), resample))  # (H, W) or (H, W, C)
    resized = resized[None] if resized.ndim == 2 else np.moveaxis(resized, -1, 0)
    return rescale(resized, 1 / 255) if is_fraction(pixels) else resized


def center_crop(pixels: Array, height: int, width: int) -> Array:
    """The middle (..., height, width) of pixels (..., H, W), with zeros where they do not reach.

    When the pixels left over are odd in number, one more is cut off at the bottom and right, or padded at the top and
    left.
    """
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2  # negative: lines of zeros before
    inside = pixels[..., max(top, 0) : top + height, max(left, 0) : left + width]
    cropped = np.zeros((*pixels.shape[:-2], height, width), pixels.dtype)
    row, column = max(-top, 0), max(-left, 0)
    cropped[..., row : row + inside.shape[-2], column : column + inside.shape[-1]] = inside
    return cropped


def _target_size(size: Any) -> tuple[int, int]:
    if not _is_sequence(size) or len(size) != 2 or not all(map(is_positive_integer, size)):
        raise ConfigError(f"target_sizes: {short(size)}, expected (height, width), two positive integers")
    return int(size[0]), int(size[1])


def _is_sequence(values: Any) -> bool:
    """Whether these are values in order, in an array too; not text."""
    if isinstance(values, np.ndarray):
        return values.ndim > 0
    return isinstance(values, Sequence) and not isinstance(values, str | bytes)


def _best_of_resized(scores: Array, size: tuple[int, int]) -> Array:
    """The best class, int64, of each pixel of logits (K, H, W) at another size: all the classes of a photograph at its
    own size would take a gigabyte."""
    best = np.empty(size, np.int64)
    for rows, band in _resized_bands(scores, size):
        best[rows] = band.argmax(axis=0)
    return best


def _resized(scores: Array, size: tuple[int, int]) -> Array:
    """Logits (K, H, W) at another size."""
    resized = np.empty((len(scores), *size), np.float32)
    for rows, band in _resized_bands(scores, size):
        resized[:, rows] = band
    return resized


def _resized_bands(scores: Array, size: tuple[int, int]) -> Iterator[tuple[slice, Array]]:
    """Logits (K, H, W) at another size, in bands from the top: which rows, and their logits, (K, rows, width)."""
    channels_last = np.ascontiguousarray(np.moveaxis(scores, 0, -1))[None]  # (1, H, W, K)
    height, width = size
    at_once = max(1, BAND_NUMBERS // (width * len(scores)))
    for top in range(0, height, at_once):
        rows = range(top, min(top + at_once, height))
        resized = kernels.resize_bilinear(channels_last, height, width, rows=rows)[0]
        yield slice(rows.start, rows.stop), np.moveaxis(resized, -1, 0)


def _by_name(sources: Any, what: str, dimensions: int) -> dict[str, Any]:
    """The sources of a batch under the names that error messages give them; one source is a batch of one."""
    if isinstance(sources, np.ndarray) and sources.ndim == dimensions + 1:
        sources = list(sources)
    if not isinstance(sources, list | tuple):
        return {what: sources}
    if not sources:
        raise ImageError(f"{what}s: an empty list, expected at least one")
    return {f"{what} {index} of the list": source for index, source in enumerate(sources)}


def _stack(arrays: list[Array], name: str, return_tensors: str | None) -> Array | list[Array]:
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) == 1:
        return np.stack(arrays)
    if return_tensors == "np":
        raise ImageError(f"{name}: shapes {', '.join(map(str, shapes))}, expected one for return_tensors='np'")
    return arrays


# Keys that transformers writes and its MobileViT processor makes nothing of -> the values accepted; None: any.
_UNUSED: dict[str, tuple[Any, ...] | None] = {
    "image_mean": None,
    "image_std": None,
    "processor_class": None,
    "use_fast": None,
    "do_normalize": (False,),
    "do_pad": (False,),
    "default_to_square": (False,),
    "data_format": ("channels_first",),
    "image_processor_type": TYPE_NAMES,
    "feature_extractor_type": TYPE_NAMES,
}


def _known_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are fields, under today's names."""
    known = {
        name: value
        for name, value in settings.items()
        if not str(name).startswith("_") and (value is not None or name in _RULES or name == "do_flip_channels")
    }
    if "do_flip_channels" in known:
        known = {"do_flip_channel_order": known.pop("do_flip_channels")} | known
    for name in known.keys() - _RULES.keys():
        if name not in _UNUSED:
            checks.known(name, _RULES)
        value, accepted = known.pop(name), _UNUSED[name]
        if accepted is not None and not checks.is_one_of(value, accepted):
            raise ConfigError(f"{name}: {short(value)}, expected {' or '.join(map(repr, accepted))}")
    return known


# Settings -> the switch without which nothing uses them.
_USED_BY = {"size": "do_resize", "resample": "do_resize", "crop_size": "do_center_crop", "rescale_factor": "do_rescale"}


def _filter(name: str, value: Any) -> Image.Resampling:
    if isinstance(value, bool) or not isinstance(value, Integral) or value not in list(Image.Resampling):
        filters = ", ".join(f"{number.value} {number.name.lower()}" for number in sorted(Image.Resampling))
        raise ConfigError(f"{name}: {short(value)}, expected one of Pillow's filters: {filters}")
    return Image.Resampling(int(value))


def _resize_size(name: str, value: Any) -> dict[str, int]:
    value = value if isinstance(value, Mapping) else {"shortest_edge": value}
    known = value.keys() in ({"shortest_edge"}, {"height", "width"})
    if not known or not all(map(is_positive_integer, value.values())):
        raise ConfigError(f"{name}: {short(value)}, expected a positive shortest_edge, or a positive height and width")
    return {key: checks.positive_integer(f"{name}: {key}", side) for key, side in value.items()}


def _crop_size(name: str, value: Any) -> dict[str, int]:
    value = value if isinstance(value, Mapping) else {"height": value, "width": value}
    if value.keys() != {"height", "width"} or not all(map(is_positive_integer, value.values())):
        raise ConfigError(f"{name}: {short(value)}, expected a positive height and width")
    limits.check(math.prod(map(int, value.values())) * PIXEL_BYTES, f"{name}: {short(value)}", ConfigError)
    return {key: int(side) for key, side in value.items()}


_RULES: dict[str, Callable[[str, Any], Any]] = {
    "do_resize": checks.boolean,
    "size": _resize_size,
    "resample": _filter,
    "do_center_crop": checks.boolean,
    "crop_size": _crop_size,
    "do_rescale": checks.boolean,
    "rescale_factor": checks.factor,
    "do_flip_channel_order": checks.boolean,
    "do_reduce_labels": checks.boolean,
    "do_convert_rgb": checks.boolean_or_none,
}
