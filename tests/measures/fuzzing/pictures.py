"""Pictures of every format that Pillow writes, damaged. Pillow must agree on the pixels."""

import io
import struct
import warnings
import zlib
from functools import cache

import numpy as np
from PIL import Image, ImageOps

from tinymvit.images.load import load_image, load_segmentation_map
from tinymvit.images.processor import MobileViTImageProcessor

from . import rules
from .cases import Case
from .random_values import file_name, mutated_bytes

MODES = ("RGB", "L", "1", "P", "RGBA", "LA", "I", "I;16", "F", "CMYK", "YCbCr")
NUMBERS_NOT_LEVELS = ("I", "F", "P", "PA", "La", "RGBa")  # modes that we read in our own way
SUFFIXES = (".png", ".jpg", ".tif", ".webp", ".gif", ".bmp", ".ico", ".ppm", ".PNG", "", ".txt", ".safetensors")
LARGE = (0, 1, 255, 4000, 9459, 20000, 65535, 2**31 - 1, 2**32 - 1)
NEVER = ("PDF", "EPS", "HDF5", "GRIB", "BUFR", "WMF")  # formats that Pillow writes but cannot read by itself


@cache
def good_pictures():
    """The bytes of a small picture in each format and mode that Pillow writes, by both."""
    Image.init()
    pixels = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    base = Image.fromarray(pixels)
    found = {}
    for format in sorted(set(Image.SAVE) - set(NEVER)):
        for mode in MODES:
            for name, options in _options(format).items():
                file = io.BytesIO()
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        base.convert("L" if mode == "I;16" else mode).convert(mode).save(file, format, **options)
                except Exception:  # a mode that the format has not: whatever the plugin raises
                    continue
                found[format, mode, name] = file.getvalue()
    return found


def _options(format):
    exif = Image.Exif()
    exif[274] = 6
    frames = [Image.new("RGB", (17, 13), colour) for colour in ("red", "blue")]
    more = {"exif": {"exif": exif.tobytes()}, "frames": {"save_all": True, "append_images": frames}}
    if format == "TIFF":
        more |= {name: {"compression": name} for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "group4")}
    if format == "PNG":
        more |= {"transparent": {"transparency": 3}}
    if format == "JPEG":
        more |= {"progressive": {"progressive": True, "exif": exif.tobytes()}}
    return {"plain": {}, **more} if format in ("TIFF", "PNG", "JPEG", "WEBP", "GIF", "MPO", "AVIF") else {"plain": {}}


def picture_content(rng):
    """The bytes of a picture, mostly damaged, and what it was."""
    (format, mode, option), content = rng.choice(sorted(good_pictures().items()))
    damage = rng.randrange(10)
    if format == "PNG" and rng.random() < 0.7:
        content = png_changed(rng, content)
    elif damage < 3:
        content = mutated_bytes(rng, content)
    elif damage == 3:
        head = mutated_bytes(rng, content[:200], rng.choice((1, 2, 3)))
        content = head + content[200:]
    elif damage in (4, 5):
        content = other_size(rng, content)
    elif damage == 6:
        content = content[: rng.randrange(len(content))]
    elif damage == 7:
        content = content + rng.choice((content, rng.choice(sorted(good_pictures().items()))[1], rng.randbytes(50)))
    elif damage == 8:
        content = exif_changed(rng, content)
    return f"{format} {mode} {option}", content


def other_size(rng, content):
    """Another number wherever the width or the height of 17 x 13 may stand."""
    side = rng.choice((17, 13))
    for code in rng.sample((">I", "<I", ">H", "<H"), 4):
        at = content[:400].find(struct.pack(code, side))
        if at >= 0:
            number = rng.choice(LARGE) & (0xFFFFFFFF if code[1] == "I" else 0xFFFF)
            return content[:at] + struct.pack(code, number) + content[at + struct.calcsize(code) :]
    return mutated_bytes(rng, content)


def exif_changed(rng, content):
    at = content.find(b"\x12\x01")  # the tag of the orientation, 274
    at = at if at >= 0 else content.find(b"\x01\x12")
    if at < 0:
        return mutated_bytes(rng, content, 1)
    return content[:at] + mutated_bytes(rng, content[at : at + 12], 2) + content[at + 12 :]


def png_changed(rng, content):
    """Chunks changed, moved, doubled, dropped and added, their checksums right."""
    chunks, at = [], 8
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += length + 12
    for _ in range(rng.choice((1, 1, 2))):
        number, action = rng.randrange(len(chunks)), rng.randrange(7)
        kind, data = chunks[number]
        if action == 0 and len(chunks) > 1:
            del chunks[number]
        elif action == 1:
            chunks.insert(rng.randrange(len(chunks)), (kind, data))
        elif action == 2:
            chunks.insert(1, (rng.choice(_KINDS), rng.choice((b"", rng.randbytes(13), b"\x00" * 300, _unfolding()))))
        elif action == 3 and kind == b"IHDR":
            sides = struct.pack(">II", *(rng.choice((*LARGE, 17, 13)) for _ in range(2)))
            chunks[number] = (
                kind,
                rng.choice((sides, data[:8])) + bytes(rng.choice((0, 1, 2, 3, 4, 6, 8, 16)) for _ in range(5)),
            )
        elif action == 4 and kind == b"IDAT":
            raw = rng.choice((b"", b"\x00" * 10**6, rng.randbytes(700), b"\x09" * 800))
            chunks[number] = (kind, zlib.compress(raw))
        else:
            chunks[number] = (kind, mutated_bytes(rng, data) if data else b"x")
    body = b"".join(_chunk(kind, data, rng.random() < 0.03) for kind, data in chunks)
    return content[:8] + body


_KINDS = (
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"iCCP",
    b"eXIf",
    b"tRNS",
    b"gAMA",
    b"PLTE",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"pHYs",
    b"abcD",
)


@cache
def _unfolding():
    """A chunk of text that unfolds to megabytes."""
    return b"a\x00\x00" + zlib.compress(b"\x00" * 5 * 10**6)


def _chunk(kind, data, wrong):
    checksum = zlib.crc32(kind + data) ^ wrong
    return len(data).to_bytes(4, "big") + kind + data + checksum.to_bytes(4, "big")


@cache
def large_picture(depth, colour, channels, side):
    """A PNG of a few kilobytes with as many pixels as are allowed, or more."""
    row = b"\x00" + bytes((side * depth * channels + 7) // 8)
    packer = zlib.compressobj(1)
    rows = packer.compress(row * side) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data, False) for kind, data in chunks)


def picture_file(rng, sandbox):
    what, content = picture_content(rng)
    return _case(rng, sandbox, what, content)


def picture_bomb(rng, sandbox):
    """Large pictures in small files."""
    depth, colour, channels = rng.choice(((1, 0, 1), (8, 0, 1), (16, 0, 1), (8, 2, 3), (8, 6, 4), (8, 4, 2)))
    side = rng.choice((3000, 6000, 9400, 9460, 13000, 14000) if depth == 1 else (3000, 6000, 9400))
    content = large_picture(depth, colour, channels, side)
    if rng.random() < 0.4:
        content = content[: len(content) // 2]
    return _case(rng, sandbox, f"PNG of {side} x {side}, {depth} bits, colour type {colour}", content)


def _case(rng, sandbox, what, content):
    path = sandbox.case / file_name(rng, rng.choice(SUFFIXES))
    path.write_bytes(content)
    way = rng.randrange(8)
    if way == 0:
        return Case(lambda: load_segmentation_map(path), f"load_segmentation_map of {what}, {path.name!r}")
    if way == 1:
        processor = MobileViTImageProcessor(size=20, crop_size=16)
        return Case(lambda: processor([path]), f"processor of {what}, {path.name!r}")
    told = f"load_image of {what}, {path.name!r}"
    return Case(lambda: load_image(path), told, agrees=lambda answer, error: _as_pillow(path, answer, error))


def _as_pillow(path, answer, error):
    """What Pillow reads otherwise."""
    try:
        with path.open("rb") as file, Image.open(file) as image:  # by its name, Pillow maps some, and turns none
            if image.width * image.height > rules.PILLOW_READS:
                return None
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode in NUMBERS_NOT_LEVELS or image.mode.startswith("I;16") or 0 in image.size:
                return None
            theirs = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    except Exception:  # whatever Pillow's decoders raise
        return None if answer is None else "accepted what Pillow refuses"
    if answer is None:
        known = any(part in str(error) for part in rules.REFUSALS_OF_GOOD_PICTURES)
        return None if known else "refused what Pillow reads"
    return None if np.array_equal(answer, theirs) else "other pixels than Pillow's"
