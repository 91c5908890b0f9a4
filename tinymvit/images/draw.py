"""Pictures of a segmentation: an overlay with a legend, or the raw class ids; and any picture into a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tinymvit.errors import OutputError
from tinymvit.files import write_files
from tinymvit.labels import voc_palette
from tinymvit.numerics import Array

BAND = 64  # rows that are blended at a time
OPACITY = 0.6  # of the colours over the image
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")  # of the formats that hold RGB pictures
BACKGROUND = 0  # the class that is not coloured, in PASCAL VOC and in the bundled checkpoint


def overlay(image: Array, mask: Array, labels: dict[int, str]) -> Image.Image:
    """The image with each class but the background in its colour of PASCAL VOC's palette, and below it a legend.

    image: (3, H, W) uint8, RGB. mask: (H, W) class ids. labels: the names to put in the legend, by class id.
    """
    blended = np.empty((*mask.shape, 3), np.uint8)
    for top in range(0, len(mask), BAND):  # in floats, the whole would take ten times its memory
        rows = slice(top, top + BAND)
        pixels = image[:, rows].transpose(1, 2, 0).astype(np.float32)
        colours = voc_palette()[mask[rows] % 256]
        opacity = np.where(mask[rows] == BACKGROUND, 0, OPACITY)[..., None]
        blended[rows] = (pixels + (colours - pixels) * opacity).round()
    picture = Image.fromarray(blended)
    shown = {label: name for label, name in labels.items() if label != BACKGROUND}
    return _with_legend(picture, shown) if shown else picture


def class_ids(mask: Array) -> Image.Image:
    """The mask as a grey picture whose pixel values are the class ids: 8 bits, or 16 if an id exceeds 255."""
    return Image.fromarray(mask.astype(np.uint8 if mask.max(initial=0) < 256 else np.uint16))


def _with_legend(picture: Image.Image, labels: dict[int, str]) -> Image.Image:
    """`picture` on top of rows of colour swatches and names, as many in a row as fit."""
    size = max(12, picture.width // 40)
    font = ImageFont.load_default(size)
    gap, swatch, row_height = size // 2, size, size * 3 // 2
    places: list[tuple[int, int, int, str]] = []
    x, row = gap, 0
    for label, name in labels.items():
        width = swatch + gap // 2 + int(font.getlength(name)) + gap
        if x > gap and x + width > picture.width:
            x, row = gap, row + 1
        places.append((x, row, label, name))
        x += width
    result = Image.new("RGB", (picture.width, picture.height + (row + 1) * row_height + gap), "white")
    result.paste(picture)
    draw = ImageDraw.Draw(result)
    colours = voc_palette()
    for x, row, label, name in places:
        y = picture.height + gap + row * row_height
        colour = tuple(int(v) for v in colours[label % 256])
        draw.rectangle((x, y, x + swatch - 1, y + swatch - 1), fill=colour)
        draw.text((x + swatch + gap // 2, y + swatch // 2), name, fill="black", font=font, anchor="lm")
    return result


def check_suffix(path: Path) -> None:
    """Raise OutputError unless the path's suffix names a format that a picture can be written in."""
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{path}: the suffix {path.suffix!r} names no picture format; expected {', '.join(SUFFIXES)}")


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write the picture in the format of the path's suffix; its folder is made if need be, and a file that is already
    there stays whole if this fails. Raises OutputError naming the path."""
    check_suffix(path)
    format = Image.registered_extensions()[path.suffix.lower()]
    write_files(path.parent, {path.name: lambda file: picture.save(file, format)})
