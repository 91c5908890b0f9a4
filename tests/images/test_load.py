"""Reading pictures: every kind of source becomes the pixels one expects, or one clear line."""

import io
import os
import struct
import sys
import threading
import time
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from oracle import assert_same
from tinymvit.errors import ImageError
from tinymvit.images import silence
from tinymvit.images.load import is_fraction, load_image, load_segmentation_map, rescale, to_pil

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
SHAPE = (3, 5, 7)

EIGHT_BIT_MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]


def picture(mode):
    """An image of `mode` whose colours, and alpha if there is one, vary."""
    shape = (5, 7, len(Image.new(mode, (1, 1)).getbands()))
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    if mode == "1":
        return Image.fromarray(pixels[..., 0]).convert("1")
    if mode in ("P", "PA"):
        return Image.fromarray(RGB).quantize(9).convert(mode)
    return Image.frombytes(mode, (7, 5), pixels.tobytes())


def channels_first(image):
    return np.moveaxis(np.asarray(image), -1, 0)


def saved(path, image=None, **options):
    (image or Image.fromarray(RGB)).save(path, **options)
    return path


def opened(path):
    """A PIL image that nobody has decoded yet, and that holds no file open."""
    return Image.open(io.BytesIO(path.read_bytes()))


def encoded(file_format, **options):
    buffer = io.BytesIO()
    Image.fromarray(np.tile(RGB, (8, 8, 1))).save(buffer, file_format, **options)
    return buffer.getvalue()


def fails(source, message, error=ImageError, load=load_image, **options):
    with pytest.raises(error) as caught:
        load(source, **options)
    assert str(caught.value) == message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_by_hand():
    red, blue = [255, 0, 0], [0, 0, 255]
    pixels = load_image(np.array([[red, blue], [red, red]], np.uint8))  # (2, 2, 3)
    assert pixels.tolist() == [[[255, 0], [255, 255]], [[0, 0], [0, 0]], [[0, 255], [0, 0]]]


class TestPictures:
    @pytest.mark.parametrize("mode", EIGHT_BIT_MODES)
    def test_eight_bit_modes_become_rgb(self, mode):
        image = picture(mode)
        assert_same(load_image(image), channels_first(image.convert("RGB")))

    @pytest.mark.parametrize("convert_rgb", [None, True, False])
    @pytest.mark.parametrize("mode", [*EIGHT_BIT_MODES, "La", "RGBa", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"])
    def test_every_mode_is_read(self, mode, convert_rgb):
        pixels = load_image(Image.new(mode, (7, 5)), convert_rgb=convert_rgb)
        kept = {"L": 1, "RGBA": 4} if convert_rgb is False else {}
        assert (pixels.shape, pixels.dtype) == ((kept.get(mode, 3), 5, 7), np.uint8)

    @pytest.mark.parametrize("transparency", [0, bytes(range(0, 90, 10))])
    def test_palette_with_transparency_drops_it(self, tmp_path, transparency):
        path = saved(tmp_path / "palette.png", picture("P"), transparency=transparency)
        expected = channels_first(picture("P").convert("RGB"))
        assert_same(load_image(path), expected)
        assert_same(load_image(opened(path)), expected)

    def test_premultiplied_alpha_is_undone(self):
        image = Image.new("RGBA", (1, 1), (200, 100, 0, 128)).convert("RGBa")
        assert np.abs(load_image(image).ravel() - np.array([200.0, 100.0, 0.0])).max() <= 1
        assert np.abs(load_image(image, convert_rgb=True).ravel() - np.array([227.0, 177.0, 127.0])).max() <= 1

    @pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
    def test_sixteen_bits_become_eight(self, mode):
        values = np.array([[0, 255, 256, 257, 40_000, 65_535]])
        if mode == "I":
            image = Image.fromarray(values.astype(np.int32))
        else:
            image = Image.frombytes(mode, (6, 1), values.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
        assert_same(load_image(image), np.repeat(np.uint8([[[0, 0, 1, 1, 156, 255]]]), 3, axis=0))

    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_wide_pixels_of_an_eight_bit_picture_stay(self, mode):
        image = Image.fromarray(GREY)
        assert_same(load_image(image.convert(mode)), load_image(image))

    def test_mode_f_from_0_to_1(self):
        image = Image.fromarray((GREY / 255).astype(np.float32))
        assert_same(load_image(image)[0], GREY)

    def test_true_blends_onto_white(self):
        image = Image.new("RGBA", (1, 1), (255, 0, 100, 0))
        assert load_image(image, convert_rgb=True).ravel().tolist() == [255, 255, 255]
        assert load_image(image).ravel().tolist() == [255, 0, 100]

    def test_false_keeps_grey_and_alpha(self):
        assert_same(load_image(Image.fromarray(GREY), convert_rgb=False), GREY[None])
        assert_same(load_image(picture("RGBA"), convert_rgb=False), channels_first(picture("RGBA")))

    def test_errors(self):
        fails(Image.new("RGB", (0, 3)), "image: no pixels in 0 x 3")
        deep = Image.fromarray(np.array([[-3, 70_000]], np.int32))
        fails(deep, "image: pixels from -3 to 70000, expected 16 bits, 0 to 65535")
        dark = Image.fromarray(np.array([[-3, 7]], np.int32))
        fails(dark, "image: pixels from -3 to 7, expected 0 to 255, or 0 to 1")
        fails(Image.fromarray(np.full((1, 1), np.nan, np.float32)), "image: holds NaN or infinity")


class TestFiles:
    @pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "gif", "jpg"])
    def test_as_pillow_reads_them(self, tmp_path, suffix):
        path = saved(tmp_path / f"picture.{suffix}")
        expected = channels_first(opened(path).convert("RGB"))
        assert_same(load_image(path), expected)
        assert_same(load_image(str(path)), expected)
        assert_same(load_image(opened(path)), expected)

    @pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
    def test_first_of_several_pictures(self, tmp_path, suffix):
        path = tmp_path / f"several.{suffix}"
        Image.fromarray(RGB).save(path, save_all=True, append_images=[Image.new("RGB", (7, 5))])
        assert_same(load_image(path), channels_first(opened(path).convert("RGB")))

    @pytest.mark.parametrize("suffix", ["png", "pgm", "tif"])
    def test_sixteen_bit_files(self, tmp_path, suffix):
        deep = (np.arange(35, dtype=np.uint16) * 1850).reshape(5, 7)
        path = saved(tmp_path / f"deep.{suffix}", Image.fromarray(deep))
        assert_same(load_image(path)[1], (deep >> 8).astype(np.uint8))

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, tmp_path, orientation):
        turned = {  # by the meaning of the tag, rows then columns of what lies in the file
            1: RGB,
            2: RGB[:, ::-1],
            3: RGB[::-1, ::-1],
            4: RGB[::-1],
            5: RGB.swapaxes(0, 1),
            6: RGB[::-1].swapaxes(0, 1),
            7: RGB[::-1, ::-1].swapaxes(0, 1),
            8: RGB[:, ::-1].swapaxes(0, 1),
        }
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = saved(tmp_path / "turned.png", exif=exif)
        assert_same(load_image(path), channels_first(turned[orientation]))
        assert_same(load_image(path), channels_first(ImageOps.exif_transpose(opened(path))))

    def test_exif_of_an_open_image_is_the_callers(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        assert load_image(opened(saved(tmp_path / "turned.png", exif=exif))).shape == SHAPE

    def test_errors(self, tmp_path, monkeypatch):
        missing, text, empty = tmp_path / "missing.png", tmp_path / "text.png", tmp_path / "empty.png"
        text.write_text("no picture")
        empty.touch()
        fails(missing, f"{missing}: no such file")
        fails(str(missing), f"{missing}: no such file")
        fails(tmp_path, f"{tmp_path}: is a folder, expected an image file")
        fails(text, f"{text}: not an image in a format that Pillow can read")
        fails(empty, f"{empty}: not an image in a format that Pillow can read")
        fails("a\0b", r"a\x00b: cannot be read: embedded null byte")

        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
        fails(text, f"{text}: cannot be read: Permission denied")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among the files of this system")
    def test_what_is_no_file(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.png")
        (tmp_path / "zero.png").symlink_to("/dev/zero")
        (tmp_path / "loop.png").symlink_to("loop.png")
        fails(tmp_path / "pipe.png", f"{tmp_path / 'pipe.png'}: is a pipe, expected an image file")
        fails(tmp_path / "zero.png", f"{tmp_path / 'zero.png'}: is a device, expected an image file")
        fails(tmp_path / "loop.png", f"{tmp_path / 'loop.png'}: cannot be read: Too many levels of symbolic links")
        fails(f"{__file__}/a.png", f"{__file__}/a.png: no such file")
        fails(500 * "x", f"{148 * 'x'}[...]{146 * 'x'}: cannot be read: File name too long")

    @pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "gif", "xyz", "TIF"])
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF"])
    def test_a_suffix_that_lies_does_not_matter(self, tmp_path, file_format, suffix):
        path = tmp_path / f"picture.{suffix}"
        path.write_bytes(encoded(file_format))
        assert_same(load_image(path), channels_first(opened(path).convert("RGB")))

    @pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
    def test_libtiff_keeps_silent(self, tmp_path, capfd, compression):
        content = bytearray(encoded("TIFF", compression=compression))
        content[8:40] = bytes(range(200, 232))  # the first of the compressed pixels
        path = tmp_path / "damaged.tif"
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"damaged image: [^\n]*-\d$"):
            load_image(path)
        assert sys.platform == "win32" or capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "WEBP", "TIFF"])
    def test_truncated(self, tmp_path, file_format):
        path = tmp_path / "truncated"
        content = encoded(file_format)
        path.write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(ImageError, match=f"^{path}: damaged image: "):
            load_image(path)
        if file_format != "WEBP":  # which Pillow decodes as it opens
            with pytest.raises(ImageError, match=r"^image: damaged image: "):
                load_image(opened(path))

    @given(st.sampled_from(["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM"]), st.data())
    def test_any_damage_is_one_line_or_a_picture(self, tmp_path_factory, file_format, data):
        content = bytearray(encoded(file_format))
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, min(300, len(content) - 1)))] = data.draw(st.integers(0, 255))
        path = tmp_path_factory.getbasetemp() / "damaged"
        path.write_bytes(content)
        try:
            pixels = load_image(path)
        except ImageError as error:
            message = str(error)
        else:
            message = f"{path}: a picture"
            assert (len(pixels), pixels.dtype) == (3, np.uint8)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message

    @pytest.mark.parametrize("limit", [20, 10])  # of 35 pixels: Pillow warns above the limit, refuses above its double
    def test_decompression_bomb(self, tmp_path, monkeypatch, limit):
        path = saved(tmp_path / "bomb.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        advice = "if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS"
        fails(path, f"{path}: more than {limit} pixels, perhaps a decompression bomb; {advice}")

    @pytest.mark.parametrize("suffix", [".png", ".gif", ".jpg", ".webp", ".jp2", ".tif", ".mpo"])
    def test_more_memory_than_is_allowed_is_refused_before_it_is_taken(self, tmp_path, monkeypatch, suffix):
        path = tmp_path / f"large{suffix}"
        Image.new("RGB", (300, 200)).save(path)
        load_image(path)
        monkeypatch.setenv("TINYMVIT_MAX_MEMORY", "400K")
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
        with pytest.raises(ImageError) as caught:
            load_image(path)
        assert str(caught.value).startswith(f"{path}: 300 x 200 pixels: ")
        assert str(caught.value).endswith(" of memory, expected at most 409600 bytes (TINYMVIT_MAX_MEMORY raises it)")

    def test_a_tile_that_is_larger_than_its_picture_counts(self, tmp_path):
        path = tmp_path / "tile.tif"
        tags = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 8, 325: 64}
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(68))
        fails(
            path,
            f"{path}: 8 x 8 pixels: 3.35 GiB of memory, expected at most 1.00 GiB (TINYMVIT_MAX_MEMORY raises it)",
        )

    def test_no_memory_left(self, tmp_path, monkeypatch):
        def fail(*_):
            raise MemoryError

        path = saved(tmp_path / "large.png")
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
        fails(path, f"{path}: no memory to decode it, expected a smaller picture")

    def test_pictures_are_converted_in_bands(self, tmp_path, monkeypatch):
        images = [picture(mode) for mode in EIGHT_BIT_MODES]
        images += [
            Image.fromarray(GREY.astype(dtype) * factor) for dtype, factor in (("i4", 1), ("u2", 257), ("f4", 1))
        ]
        images.append(Image.fromarray(GREY.astype(np.float32) / 255))
        whole = [[load_image(image, convert_rgb=rgb) for rgb in (None, True, False)] for image in images]
        monkeypatch.setattr("tinymvit.images.load.BAND_PIXELS", 14)  # two rows
        for image, expected in zip(images, whole, strict=True):
            for rgb, pixels in zip((None, True, False), expected, strict=True):
                assert_same(load_image(image, convert_rgb=rgb), pixels)

    @pytest.mark.parametrize(
        ("content", "file_format"),
        [
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n", "EPS"),
            (
                b"\x1c\x03\x3c\x00\x02\x01\x00\x1c\x03\x14\x00\x01\x08\x1c\x03\x1e\x00\x01\x08\x1c\x03\x78\x00\x01\x05"
                b"\x1c\x08\x0a\x00\x01x",
                "IPTC",
            ),
            (b"icns\x00\x00\x00\x11ic10\x00\x00\x00\x09x", "ICNS"),
        ],
    )
    def test_formats_that_would_be_given_to_other_programs(self, tmp_path, content, file_format, monkeypatch):
        monkeypatch.setattr("subprocess.Popen", None)
        path = tmp_path / "picture.png"
        path.write_bytes(content)
        message = f"{path}: a file of format {file_format}, expected PNG, JPEG or another format of pictures"
        fails(path, message)
        fails(path, message, load=load_segmentation_map)
        with Image.open(path) as image:
            fails(image, message.replace(str(path), "image"))

    def test_threads_leave_the_warning_filters_alone(self, tmp_path, monkeypatch):
        path, open_image = saved(tmp_path / "picture.png"), Image.open
        load_image(path)
        before = list(warnings.filters)

        def slow_open(file):
            time.sleep(0.05)
            return open_image(file)

        monkeypatch.setattr(Image, "open", slow_open)
        threads = [threading.Thread(target=load_image, args=(path,)) for _ in range(2)]
        for thread in threads:
            thread.start()
            time.sleep(0.02)  # the second comes while the first is inside, and would leave after it
        for thread in threads:
            thread.join()
        assert warnings.filters == before


class TestArrays:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int64, np.float16, np.float32, np.float64])
    def test_layouts_and_dtypes(self, dtype):
        array = (RGB // 2).astype(dtype)
        expected = np.moveaxis(array, -1, 0)
        assert_same(load_image(array), expected)
        assert_same(load_image(expected), expected)
        for channel in (array[..., :1], expected[:1]):
            assert_same(load_image(channel), expected[:1])
        assert_same(load_image(array[..., 0]), np.repeat(expected[:1], 3, axis=0))
        assert_same(load_image(array[..., 0], convert_rgb=False), expected[:1])

    def test_read_only_and_sliced(self):
        array = RGB[::-1, ::2]
        array.flags.writeable = False
        assert_same(load_image(array), channels_first(array))

    def test_ambiguous_layout(self):
        array = np.arange(3 * 5 * 4, dtype=np.uint8).reshape(3, 5, 4)
        assert_same(load_image(array), array)
        assert_same(load_image(array, data_format="channels_first"), array)
        assert_same(load_image(array, data_format="channels_last"), np.moveaxis(array, -1, 0))

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_true_makes_rgb(self, dtype):
        rgba = np.array([[[250, 10, 0, 0]], [[250, 10, 0, 255]], [[250, 10, 0, 51]]]).astype(dtype)  # (3, 1, 4)
        expected = np.array([[255, 255, 255], [250, 10, 0], [254, 206, 204]]).T[..., None].astype(dtype)
        assert_same(load_image(rgba, convert_rgb=True, data_format="channels_last"), expected, 1e-6, dtype=dtype)
        assert_same(load_image(RGB.astype(dtype), convert_rgb=True), channels_first(RGB).astype(dtype))
        assert_same(load_image(RGB[..., :1], convert_rgb=True), np.repeat(GREY[None], 3, axis=0))

    def test_errors(self):
        fails(np.zeros(3), "image: shape (3,), expected (H, W) or (C, H, W) or (H, W, C) with C = 1, 3 or 4")
        fails(
            np.zeros((5, 5, 2)), "image: shape (5, 5, 2), expected (H, W) or (C, H, W) or (H, W, C) with C = 1, 3 or 4"
        )
        fails(
            RGB, "image: shape (5, 7, 3), expected (H, W) or (C, H, W) with C = 1, 3 or 4", data_format="channels_first"
        )
        fails(RGB, "data format 'hwc', expected one of channels_first, channels_last", data_format="hwc")
        for dtype in ("bool", "complex64", "object", "U1", "datetime64[s]"):
            array = np.zeros((2, 2), dtype)
            fails(array, f"image: dtype {array.dtype}, expected uint8, another integer type or floats")
        fails(np.zeros((0, 4, 3)), "image: no pixels in shape (0, 4, 3)")
        fails(np.zeros((0, 4)), "image: no pixels in shape (0, 4)")
        for bad in (np.nan, np.inf, -np.inf):
            fails(np.array([[0.5, bad]]), "image: holds NaN or infinity")
        fails(np.array([[-0.25, 1.0]]), "image: pixels from -0.25 to 1.0, expected 0 to 255, or 0 to 1")
        fails(np.array([[0, 256]]), "the cat: pixels from 0 to 256, expected 0 to 255, or 0 to 1", name="the cat")

    @pytest.mark.parametrize("source", [None, 3, b"bytes", [RGB], io.BytesIO(b"")])
    def test_other_types(self, source):
        expected = f"image: {type(source).__name__}, expected a path, a PIL image or a NumPy array"
        fails(source, expected, TypeError)
        fails(source, expected, TypeError, load_segmentation_map, name="image")


class TestSegmentationMaps:
    IDS = np.random.default_rng(2).integers(0, 256, (5, 7))

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32])
    def test_arrays(self, dtype):
        assert_same(load_segmentation_map(self.IDS.astype(dtype)), self.IDS, dtype=np.int32)

    def test_files_and_pictures(self, tmp_path):
        grey = Image.fromarray(self.IDS.astype(np.uint8))
        palette = grey.copy()
        palette.putpalette(list(range(256)) * 3)
        deep = Image.fromarray((self.IDS * 200).astype(np.uint16))
        for image, expected in [(grey, self.IDS), (palette, self.IDS), (deep, self.IDS * 200)]:
            assert_same(load_segmentation_map(image), expected, dtype=np.int32)
            path = saved(tmp_path / "map.png", image)
            assert_same(load_segmentation_map(path), expected, dtype=np.int32)

    def test_errors(self, tmp_path):
        path = saved(tmp_path / "colours.png")
        fails(path, f"{path}: shape (5, 7, 3), expected one class id a pixel, (H, W)", load=load_segmentation_map)
        fails(
            np.zeros((0, 3)),
            "map: shape (0, 3), expected one class id a pixel, (H, W)",
            load=load_segmentation_map,
            name="map",
        )
        fails(np.zeros((1, 1), "U1"), "map: dtype <U1, expected whole numbers", load=load_segmentation_map, name="map")
        for bad in (0.5, np.nan, np.inf, 2**31):
            message = "map: holds class ids that are not whole numbers of 32 bits"
            fails(np.array([[bad]]), message, load=load_segmentation_map, name="map")


class TestPixels:
    def test_is_fraction(self):
        assert is_fraction(np.array([0.0, 1.0]))
        assert not is_fraction(np.array([0.0, 1.5]))
        assert not is_fraction(np.array([0, 1]))

    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
    def test_to_pil_undoes_load_image(self, mode):
        image = picture(mode)
        assert to_pil(load_image(image, convert_rgb=False)) == image

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
    def test_levels(self, dtype):
        every = np.arange(256)[None, None]
        assert_same(to_pil(every.astype(dtype)), every[0].astype(np.uint8))
        if np.dtype(dtype).kind == "f":
            assert_same(to_pil((every / 255).astype(dtype)), every[0].astype(np.uint8))
            assert_same(to_pil((every - 0.4).clip(0).astype(dtype)), every[0].astype(np.uint8))

    def test_rescale_rounds_once(self):
        every = np.arange(256, dtype=np.uint8)
        assert_same(rescale(every, 1 / 255), (np.arange(256) * (1 / 255)).astype(np.float32))


def test_warnings_are_silent_in_the_thread_that_decodes_alone():
    seen = []

    def another_thread():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("of another", UserWarning, stacklevel=1)
            seen.extend(caught)

    before = list(warnings.filters)
    with silence.bombs_only():
        warnings.warn("of this one", UserWarning, stacklevel=1)
        thread = threading.Thread(target=another_thread)
        thread.start()
        thread.join()
    assert [str(each.message) for each in seen] == ["of another"]
    with pytest.warns(UserWarning, match="afterwards"):
        warnings.warn("afterwards", UserWarning, stacklevel=1)
    with silence.bombs_only():
        pass
    assert len(warnings.filters) <= len(before) + 2


def test_a_damaged_animation_does_not_warn(tmp_path):
    """Pillow warns while it decodes such a PNG."""
    path = tmp_path / "animated.png"
    frame = Image.new("RGB", (4, 4))
    frame.save(path, save_all=True, append_images=[Image.new("RGB", (4, 4), "red")])
    content = bytearray(path.read_bytes())
    at = content.index(b"acTL")
    content[at + 4 : at + 12] = bytes(8)  # no frames
    content[at + 12 : at + 16] = zlib.crc32(content[at : at + 12]).to_bytes(4, "big")
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(path).shape == (3, 4, 4)


def test_a_transparent_colour_beyond_the_palette_is_damage():
    picture = Image.new("P", (2, 2))
    picture.putpalette([1, 2, 3])
    picture.info["transparency"] = 300
    with pytest.raises(ImageError, match=r"^image: damaged image: palette index out of range$"):
        load_image(picture)


def test_a_tiff_file_s_tags_do_not_warn(tmp_path):
    """Pillow warns when it first looks at one with too many values: for us, when the memory is counted."""
    content = bytearray(saved(tmp_path / "a.tif", compression="tiff_deflate").read_bytes())
    directory = int.from_bytes(content[4:8], "little")
    count = int.from_bytes(content[directory : directory + 2], "little")
    tags = {bytes(content[at : at + 2]): at for at in range(directory + 2, directory + 2 + 12 * count, 12)}
    at = tags[(278).to_bytes(2, "little")]  # rows in a strip
    content[at + 4 : at + 12] = (3).to_bytes(4, "little") + (8).to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(content)
    with warnings.catch_warnings(record=True) as caught, suppress(ImageError):
        warnings.simplefilter("always")
        load_image(tmp_path / "a.tif")
    assert not caught
