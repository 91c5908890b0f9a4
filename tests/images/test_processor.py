"""The image processor against transformers' PIL processor, bit for bit, and its post-processing against PyTorch."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from frameworks import torch, transformers
from oracle import KERNEL_FLOAT32, assert_same
from tinymvit.config import MobileViTConfig
from tinymvit.errors import CheckpointError, ConfigError, ImageError, OutputError
from tinymvit.images.processor import MobileViTFeatureExtractor, MobileViTImageProcessor, center_crop

RGB = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
LOGITS = np.random.default_rng(2).standard_normal((2, 5, 6, 9), dtype=np.float32)
IDS = np.random.default_rng(1).integers(0, 256, (50, 70), dtype=np.uint8)

SWITCHES = ["do_resize", "do_center_crop", "do_rescale", "do_flip_channel_order", "do_reduce_labels"]

sides = st.integers(1, 70)
heights_and_widths = st.fixed_dictionaries({"height": st.integers(1, 50), "width": st.integers(1, 50)})
filters = st.sampled_from(sorted(Image.Resampling)[:6])  # those that transformers knows
OPTIONAL = {
    "do_resize": st.booleans(),
    "size": st.one_of(
        st.integers(1, 40), st.fixed_dictionaries({"shortest_edge": st.integers(1, 40)}), heights_and_widths
    ),
    "do_center_crop": st.booleans(),
    "crop_size": st.one_of(st.integers(1, 50), heights_and_widths),
    "do_rescale": st.booleans(),
    "rescale_factor": st.sampled_from([1 / 255, 1 / 127.5, 1.0, 0.1]),
    "do_flip_channel_order": st.booleans(),
    "do_reduce_labels": st.booleans(),
}
# The filter is always given, for the defaults differ.
settings = st.fixed_dictionaries({"resample": st.one_of(filters, filters.map(int))}, optional=OPTIONAL)


@st.composite
def arrays(draw, channels=(1, 3, 4)):
    """A uint8 picture, channels first or last."""
    height, width, count = draw(sides), draw(sides), draw(st.sampled_from(channels))
    shape = draw(st.sampled_from([(height, width, count), (count, height, width)]))
    return np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, shape, dtype=np.uint8)


@st.composite
def pictures(draw, modes):
    """A PIL image of one of the modes."""
    pixels = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, (draw(sides), draw(sides), 4), np.uint8)
    image, mode = Image.fromarray(pixels), draw(st.sampled_from(modes))
    return (image.convert("RGB") if mode in ("CMYK", "YCbCr", "HSV", "LAB") else image).convert(mode)


def theirs(images, maps=None, call=None, **options):
    return transformers.MobileViTImageProcessorPil(**options)(images, maps, **(call or {}))


def assert_same_batch(ours, expected):
    """Equal bits of every entry; where transformers lists images of one size, ours is one array."""
    assert ours.keys() == expected.keys()
    for name in expected:
        assert isinstance(ours[name], np.ndarray) == (len({image.shape for image in expected[name]}) == 1)
        assert len(ours[name]) == len(expected[name])
        for index, (image, reference) in enumerate(zip(ours[name], expected[name], strict=True)):
            assert_same(image, reference, name=f"{name}[{index}]")


def fails(message, error=ImageError, images=RGB, maps=None, **options):
    with pytest.raises(error) as caught:
        MobileViTImageProcessor()(images, maps, **options)
    assert str(caught.value) == message


def test_by_hand():
    image = np.uint8([[[255, 0, 51], [0, 102, 204]]] * 2)  # two equal lines of two pixels
    processor = MobileViTImageProcessor(do_resize=False, crop_size={"height": 1, "width": 3})
    expected = [[[0.0, 51 / 255, 204 / 255]], [[0.0, 0.0, 102 / 255]], [[0.0, 1.0, 0.0]]]  # blue, green, red
    assert_same(processor(image).pixel_values, np.float32([expected]))


class TestAgainstTransformers:
    @pytest.mark.torch
    @given(arrays(), settings)
    def test_arrays(self, image, options):
        assert_same_batch(MobileViTImageProcessor(**options)(image), theirs(image, **options))

    @pytest.mark.torch
    @given(arrays(), settings)
    def test_settings_of_a_call(self, image, options):
        ours = MobileViTImageProcessor()(image, **options)
        assert_same_batch(ours, theirs(image, resample=2, call=options))

    @pytest.mark.torch
    @given(arrays(), settings, st.sampled_from([np.int64, np.uint16, np.float16, np.float32, np.float64]))
    def test_other_dtypes_from_0_to_255(self, image, options, dtype):
        image = image.astype(dtype)
        if np.dtype(dtype).kind == "f" and image.max() <= 1:
            return  # black or nearly: taken as from 0 to 1, see test_whole_numbers_0_and_1
        assert_same_batch(MobileViTImageProcessor(**options)(image), theirs(image, **options))

    @pytest.mark.torch
    @given(arrays(), settings, st.sampled_from([np.float16, np.float32, np.float64]), st.integers(0, 9))
    def test_floats_from_0_to_1_without_rescaling(self, image, options, dtype, seed):
        image = np.random.default_rng(seed).random(image.shape).astype(dtype)
        options["do_rescale"] = False
        assert_same_batch(MobileViTImageProcessor(**options)(image), theirs(image, **options))

    @pytest.mark.torch
    @given(pictures(["L", "RGB", "RGBA"]), settings)
    def test_pil_images_that_keep_their_channels(self, image, options):
        ours = MobileViTImageProcessor(**options, do_convert_rgb=False)(image)
        assert_same_batch(ours, theirs(image, **options, do_convert_rgb=False))

    @pytest.mark.torch
    @given(pictures(["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"]), settings)
    def test_pil_images_blended_onto_white(self, image, options):
        ours = MobileViTImageProcessor(**options, do_convert_rgb=True)(image)
        assert_same_batch(ours, theirs(image, **options, do_convert_rgb=True))

    @pytest.mark.torch
    @pytest.mark.parametrize("dtype", [np.uint8, np.int32])
    def test_arrays_blended_onto_white(self, dtype):
        for channels in (1, 3, 4):
            image = np.random.default_rng(2).integers(0, 256, (30, 20, channels)).astype(dtype)
            ours = MobileViTImageProcessor(do_convert_rgb=True)(image)
            assert_same_batch(ours, theirs(image, resample=2, do_convert_rgb=True))

    @pytest.mark.torch
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_fractions_blended_onto_white(self, dtype):
        options = {"do_convert_rgb": True, "do_rescale": False, "resample": 2}
        image = np.random.default_rng(2).random((30, 20, 4)).astype(dtype)
        assert_same_batch(MobileViTImageProcessor(**options)(image), theirs(image, **options))

    @pytest.mark.torch
    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    @pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
    def test_files(self, tmp_path, mode, suffix):
        path = tmp_path / f"picture.{suffix}"
        exif = Image.Exif()
        exif[0x0112] = 6
        mode = {"P": "L", "RGBA": "RGB"}.get(mode, mode) if suffix == "jpg" else mode
        Image.fromarray(RGB).convert(mode).save(path, exif=exif)
        assert_same_batch(MobileViTImageProcessor()([path]), theirs([str(path)], resample=2))

    @pytest.mark.torch
    @given(st.lists(st.tuples(sides, sides), min_size=1, max_size=4), settings)
    def test_lists(self, shapes, options):
        images = [RGB[:height, :width] for height, width in shapes]
        call = {"input_data_format": "channels_last"}
        ours = MobileViTImageProcessor(**options)(images, **call)
        assert_same_batch(ours, theirs(images, **options, call=call))

    @pytest.mark.torch
    def test_batch_in_one_array(self):
        batch = np.stack([RGB, RGB[::-1]])
        expected = theirs(batch, resample=2)
        for images in (batch, np.moveaxis(batch, -1, 1), list(batch), tuple(batch)):
            assert_same_batch(MobileViTImageProcessor()(images), expected)

    @pytest.mark.torch
    @given(sides, sides, settings, st.sampled_from([np.uint8, np.int64, "PIL", "palette"]))
    def test_segmentation_maps(self, height, width, options, kind):
        image, ids = RGB[:height, :width], IDS[:height, :width]
        call = {"input_data_format": "channels_last"}
        if kind in ("PIL", "palette"):
            maps = Image.fromarray(ids)
            if kind == "palette":
                maps.putpalette(list(range(256)) * 3)
        else:
            maps = ids.astype(kind)
        ours = MobileViTImageProcessor(**options)([image, image], [maps, maps], **call)
        # transformers changes the caller's array when it reduces labels
        copies = [maps.copy(), maps.copy()]
        assert_same_batch(ours, theirs([image, image], copies, **options, call=call))

    @pytest.mark.torch
    def test_a_batch_of_segmentation_maps(self):
        ours = MobileViTImageProcessor()([RGB, RGB], np.stack([IDS, IDS[::-1]]))
        assert_same_batch(ours, theirs([RGB, RGB], np.stack([IDS, IDS[::-1]]), resample=2))

    @pytest.mark.torch
    def test_return_tensors(self):
        ours = MobileViTImageProcessor()([RGB, RGB], [IDS, IDS], return_tensors="np")
        expected = theirs([RGB, RGB], [IDS, IDS], resample=2, call={"return_tensors": "np"})
        for name in ("pixel_values", "labels"):
            assert_same(ours[name], expected[name], name=name)

    @given(sides, sides, sides, sides)
    def test_center_crop_by_index(self, height, width, new_height, new_width):
        pixels = np.arange(height * width).reshape(height, width) + 1
        cropped = center_crop(pixels, new_height, new_width)
        for row, column in np.ndindex(new_height, new_width):
            source = row + (height - new_height) // 2, column + (width - new_width) // 2
            inside = 0 <= source[0] < height and 0 <= source[1] < width
            assert cropped[row, column] == (pixels[source] if inside else 0)


class TestWhereTransformersGivesNoSensibleAnswer:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("do_resize", [True, False])
    def test_floats_from_0_to_1_are_not_divided_by_255_again(self, dtype, do_resize):
        processor = MobileViTImageProcessor(do_resize=do_resize)
        ours = processor((RGB / 255).astype(dtype)).pixel_values
        assert_same(ours, processor(RGB).pixel_values, 1e-7, dtype=np.float32)

    def test_whole_numbers_0_and_1(self):
        black_and_white = (RGB > 127).astype(np.float32)
        ours = MobileViTImageProcessor(resample=0)(black_and_white).pixel_values
        assert set(np.unique(ours)) == {0.0, 1.0}

    def test_floats_between_levels_are_rounded_to_resize(self):
        ours = MobileViTImageProcessor()(RGB * 0.5).pixel_values
        assert_same(ours, MobileViTImageProcessor()(np.rint(RGB * 0.5)).pixel_values)

    @pytest.mark.torch
    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F"])
    def test_pil_images_become_rgb(self, mode):
        image = Image.fromarray(RGB)
        image = image.convert("L").convert(mode) if mode in ("I", "F") else image.convert(mode)
        assert_same_batch(MobileViTImageProcessor()(image), theirs(image.convert("RGB"), resample=2))

    @pytest.mark.torch
    def test_grey_arrays_without_channels(self):
        assert_same_batch(MobileViTImageProcessor()([RGB[..., 0]]), theirs(np.repeat(RGB[..., :1], 3, 2), resample=2))

    def test_class_ids_above_255(self):
        many = IDS.astype(np.int64) * 1000 - 1000
        ours = MobileViTImageProcessor(do_center_crop=False)(RGB, many).labels
        small = MobileViTImageProcessor(do_center_crop=False)(RGB, IDS).labels
        assert_same(ours, small * 1000 - 1000)

    def test_maps_in_files(self, tmp_path):
        path = tmp_path / "map.png"
        Image.fromarray(IDS).save(path)
        assert_same(MobileViTImageProcessor()(RGB, path).labels, MobileViTImageProcessor()(RGB, IDS).labels)

    def test_inputs_are_left_alone(self):
        image, ids = RGB.copy(), IDS.copy()
        MobileViTImageProcessor(do_reduce_labels=True)(image, ids)
        assert_same(image, RGB)
        assert_same(ids, IDS)


class TestBatch:
    def test_is_a_dict_with_attributes(self):
        batch = MobileViTImageProcessor()(RGB, IDS)
        assert {**batch}.keys() == {"pixel_values", "labels"}
        assert batch.pixel_values is batch["pixel_values"]
        assert batch.labels is batch["labels"]
        assert MobileViTImageProcessor()(RGB).labels is None

    def test_shapes_and_dtypes(self):
        batch = MobileViTImageProcessor(crop_size=32)([RGB, RGB[:20]], [IDS, IDS[:20]])
        assert (batch.pixel_values.shape, batch.pixel_values.dtype) == ((2, 3, 32, 32), np.float32)
        assert (batch.labels.shape, batch.labels.dtype) == ((2, 32, 32), np.int64)

    def test_position_in_the_batch_does_not_matter(self):
        one, two = MobileViTImageProcessor()([RGB, RGB[::-1]]).pixel_values
        assert_same(one, MobileViTImageProcessor()(RGB).pixel_values[0])
        assert_same(two, MobileViTImageProcessor()(RGB[::-1]).pixel_values[0])

    def test_errors(self, tmp_path):
        fails("images: an empty list, expected at least one", images=[])
        fails("segmentation maps: 1, expected one for each of 2 images", images=[RGB, RGB], maps=IDS)
        fails("segmentation map 0: shape (70, 50), expected its image's (50, 70)", maps=IDS.T)
        fails("image 1 of the list: no pixels in shape (0, 5, 3)", images=[RGB, np.zeros((0, 5, 3))])
        fails("segmentation map 0 of the list: dtype <U1, expected whole numbers", maps=[np.zeros((2, 2), "U1")])
        fails(f"{tmp_path}: is a folder, expected an image file", images=[RGB, tmp_path])
        expected = "image: dict, expected a path, a PIL image or a NumPy array"
        fails(expected, TypeError, images={})
        fails("data format 'hwc', expected one of channels_first, channels_last", input_data_format="hwc")
        message = "return_tensors: 'pt', expected 'np' or None: tinymvit uses NumPy arrays"
        fails(message, ConfigError, return_tensors="pt")
        message = "pixel_values: shapes (3, 224, 313), (3, 224, 560), expected one for return_tensors='np'"
        fails(message, images=[RGB, RGB[:28]], do_center_crop=False, return_tensors="np")

    def test_a_strip_of_an_image(self):
        strip = np.zeros((1, 10_000, 3), np.uint8)
        message = (
            "image: 1 x 10000 resized to 224 x 2240000: 9.34 GiB of memory, expected at most 1.00 GiB "
            "(TINYMVIT_MAX_MEMORY raises it)"
        )
        fails(message, images=strip, input_data_format="channels_last")


class TestSettings:
    @pytest.mark.torch
    def test_defaults(self):
        processor = MobileViTImageProcessor()
        reference = transformers.MobileViTImageProcessorPil(resample=2).to_dict()
        unused = {"image_mean", "image_std"}
        assert processor.to_dict() == {name: value for name, value in reference.items() if name not in unused}

    def test_old_forms(self):
        old = MobileViTFeatureExtractor(size=288, crop_size=256, do_flip_channels=False)
        new = MobileViTImageProcessor(
            size={"shortest_edge": 288}, crop_size={"height": 256, "width": 256}, do_flip_channel_order=False
        )
        assert old == new
        assert MobileViTImageProcessor(do_flip_channels=False, do_flip_channel_order=True) == MobileViTImageProcessor()
        flipped = MobileViTImageProcessor()(RGB, do_flip_channels=False).pixel_values
        assert_same(flipped[:, ::-1], MobileViTImageProcessor()(RGB).pixel_values)

    def test_none_says_nothing(self):
        names = ["do_resize", "size", "resample", "crop_size", "do_normalize", "do_convert_rgb", "do_pad", "device"]
        assert MobileViTImageProcessor(**dict.fromkeys(names)) == MobileViTImageProcessor()
        processor, names = MobileViTImageProcessor(size=32), ["do_normalize", "do_convert_rgb", "do_pad", "device"]
        assert_same_batch(processor(RGB, **dict.fromkeys(names)), processor(RGB))

    @pytest.mark.torch
    @given(st.sets(st.sampled_from([*SWITCHES, "size", "resample", "crop_size", "rescale_factor"])))
    def test_null_in_a_file_means_what_it_means_in_transformers(self, names):
        values = {"size": 32, "crop_size": 24, "resample": 2, "do_reduce_labels": True} | dict.fromkeys(names)
        reference = transformers.MobileViTImageProcessorPil.from_dict(dict(values))
        needed = {"size": "do_resize", "resample": "do_resize", "crop_size": "do_center_crop"}
        needed |= {"rescale_factor": "do_rescale"}
        if any(name in names and switch not in names for name, switch in needed.items()):
            with pytest.raises(ValueError, match="must be specified"):
                reference(RGB, IDS.copy())
            with pytest.raises(ConfigError, match=r": None, expected a value where do_\w+ is true$"):
                MobileViTImageProcessor.from_dict(values)
        else:
            assert_same_batch(MobileViTImageProcessor.from_dict(values)(RGB, IDS), reference(RGB, IDS.copy()))

    @pytest.mark.torch
    @given(st.sets(st.sampled_from(SWITCHES[:3])))  # the other two, transformers refuses
    def test_none_in_a_call_means_what_it_means_in_transformers(self, names):
        options, call = {"size": 32, "crop_size": 24, "resample": 2}, dict.fromkeys(names)
        assert_same_batch(MobileViTImageProcessor(**options)(RGB, **call), theirs(RGB, call=call, **options))

    def test_none_for_what_is_needed(self):
        with pytest.raises(ConfigError, match=r"^size: None, expected a value where do_resize is true$"):
            MobileViTImageProcessor.from_dict({"size": None})
        with pytest.raises(ConfigError, match=r"^from_dict: a bytes, expected a mapping of option names to values$"):
            MobileViTImageProcessor.from_dict(b"{}")

    def test_repr_says_every_setting(self):
        processor = MobileViTImageProcessor(size=288)
        text = repr(processor)
        assert text.startswith("MobileViTImageProcessor(do_resize=True, size={'shortest_edge': 288}, resample=<Res")
        assert all(f"{name}=" in text for name in vars(processor))

    def test_assigned_fields_are_checked_when_used(self):
        processor = MobileViTImageProcessor()
        processor.size = 40
        assert_same_batch(processor(RGB), MobileViTImageProcessor(size=40)(RGB))
        processor.size = "large"
        with pytest.raises(ConfigError, match=r"^size: "):
            processor(RGB)

    def test_settings_are_not_shared(self):
        MobileViTImageProcessor().size["shortest_edge"] = 1
        assert MobileViTImageProcessor().size == {"shortest_edge": 224}

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"do_resise": True}, 'do_resise: no such option; did you mean "do_resize"?'),
            ({"colour": 1}, "colour: no such option"),
            ({"do_resize": 1}, "do_resize: 1, expected true or false"),
            ({"do_convert_rgb": "yes"}, "do_convert_rgb: 'yes', expected true or false"),
            ({"do_normalize": True}, "do_normalize: True, expected False"),
            ({"do_pad": True}, "do_pad: True, expected False"),
            ({"data_format": "channels_last"}, "data_format: 'channels_last', expected 'channels_first'"),
            (
                {"image_processor_type": "ViTImageProcessor"},
                "image_processor_type: 'ViTImageProcessor', expected 'MobileViTImageProcessor' or "
                "'MobileViTImageProcessorFast' or 'MobileViTFeatureExtractor'",
            ),
            ({"rescale_factor": 0}, "rescale_factor: 0, expected a positive number"),
            ({"rescale_factor": float("nan")}, "rescale_factor: nan, expected a positive number"),
            ({"rescale_factor": True}, "rescale_factor: True, expected a positive number"),
            ({"rescale_factor": "1/255"}, "rescale_factor: '1/255', expected a positive number"),
            *(
                (
                    {"resample": value},
                    f"resample: {value!r}, expected one of Pillow's filters: "
                    + ", ".join(f"{number.value} {number.name.lower()}" for number in sorted(Image.Resampling)),
                )
                for value in (99, -1, True, 2.0, "bilinear")
            ),
            *(
                ({"size": value}, f"size: {shown}, expected a positive shortest_edge, or a positive height and width")
                for value, shown in [
                    (0, "{'shortest_edge': 0}"),
                    (True, "{'shortest_edge': True}"),
                    (2.5, "{'shortest_edge': 2.5}"),
                    ("big", "{'shortest_edge': 'big'}"),
                    ({}, "{}"),
                    ({"height": 5}, "{'height': 5}"),
                    ({"longest_edge": 5}, "{'longest_edge': 5}"),
                    ({"height": 5, "width": -5}, "{'height': 5, 'width': -5}"),
                ]
            ),
            *(
                ({"crop_size": value}, f"crop_size: {shown}, expected a positive height and width")
                for value, shown in [
                    (0, "{'height': 0, 'width': 0}"),
                    ([4, 4, 4], "{'height': [4, 4, 4], 'width': [4, 4, 4]}"),
                    ({"shortest_edge": 5}, "{'shortest_edge': 5}"),
                ]
            ),
            (
                {"crop_size": 10**6},
                "crop_size: {'height': 1000000, 'width': 1000000}: 18.18 TiB of memory, expected at most 1.00 GiB "
                "(TINYMVIT_MAX_MEMORY raises it)",
            ),
        ],
    )
    def test_errors(self, option, message):
        for use in (MobileViTImageProcessor, lambda **options: MobileViTImageProcessor()(RGB, **options)):
            with pytest.raises(ConfigError) as caught:
                use(**option)
            assert str(caught.value) == message


class TestCheckpoints:
    @given(settings)
    def test_round_trip(self, tmp_path_factory, options):
        folder = tmp_path_factory.getbasetemp() / "saved"
        processor = MobileViTImageProcessor(**options)
        processor.save_pretrained(folder)
        assert MobileViTImageProcessor.from_pretrained(folder) == processor
        assert MobileViTImageProcessor.from_pretrained(folder / "preprocessor_config.json") == processor
        assert MobileViTImageProcessor.from_dict(processor.to_dict()) == processor
        assert [path.name for path in folder.iterdir()] == ["preprocessor_config.json"]

    @pytest.mark.torch
    def test_transformers_reads_ours_and_we_read_theirs(self, tmp_path):
        ours = MobileViTImageProcessor(size=40, crop_size=32, resample=1, do_reduce_labels=True, do_convert_rgb=True)
        ours.save_pretrained(tmp_path)
        reference = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
        assert type(reference) is transformers.MobileViTImageProcessorPil
        assert_same_batch(ours(RGB, IDS), reference(RGB, IDS.copy()))
        reference.save_pretrained(tmp_path)
        assert MobileViTImageProcessor.from_pretrained(tmp_path) == ours

    def test_the_first_published_form(self, tmp_path):
        old = {"crop_size": 256, "do_center_crop": True, "do_flip_channels": True, "do_resize": True, "resample": 2}
        old |= {"feature_extractor_type": "MobileViTFeatureExtractor", "size": 288}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
        assert MobileViTImageProcessor.from_pretrained(str(tmp_path)) == MobileViTImageProcessor(size=288)

    def test_the_form_of_fast_processors(self):
        fast = MobileViTImageProcessor().to_dict() | {
            "_valid_processor_keys": ["images"],
            "data_format": "channels_first",
            "default_to_square": False,
            "device": None,
            "do_normalize": None,
            "image_mean": None,
            "image_processor_type": "MobileViTImageProcessorFast",
            "input_data_format": None,
            "return_tensors": None,
        }
        assert MobileViTImageProcessor.from_dict(fast) == MobileViTImageProcessor()

    def test_changed_settings(self, tmp_path):
        MobileViTImageProcessor(size=288).save_pretrained(tmp_path)
        changed = MobileViTImageProcessor.from_pretrained(tmp_path, do_flip_channels=False, crop_size=128)
        assert changed == MobileViTImageProcessor(size=288, crop_size=128, do_flip_channel_order=False)
        assert MobileViTImageProcessor.from_dict({"size": 20}, size=30) == MobileViTImageProcessor(size=30)

    def test_checkpoint_without_settings_follows_the_published_ones(self, tmp_path):
        MobileViTConfig.preset("deeplabv3-small").save_pretrained(tmp_path)
        expected = MobileViTImageProcessor(size=544, crop_size=512)
        assert MobileViTImageProcessor.from_pretrained(tmp_path) == expected
        assert MobileViTImageProcessor.from_pretrained(tmp_path, size=512).size == {"shortest_edge": 512}

    def test_errors(self, tmp_path):
        def refused(content, message, name=tmp_path, error=ConfigError):
            path.write_text(content)
            with pytest.raises(error) as caught:
                MobileViTImageProcessor.from_pretrained(name)
            assert str(caught.value).startswith(message)

        path = tmp_path / "preprocessor_config.json"
        refused('{"size": -1}', f"{path}: size: {{'shortest_edge': -1}}, expected ")
        refused('{"do_flips": true}', f"{path}: do_flips: no such option")
        refused("[]", f"{path}: ")
        refused("{", f"{path}: line 1: ")
        missing = tmp_path / "missing.json"
        refused("{}", f"{missing}: cannot be read: No such file or directory", missing)
        refused("{}", "no-such-model: ", "no-such-model", CheckpointError)
        with pytest.raises(OutputError, match="preprocessor_config"):
            MobileViTImageProcessor().save_pretrained(path)


class TestPostProcessing:
    def test_by_hand(self):
        logits = np.float32([[[[0.0, 4.0]], [[1.0, 1.0]]]])  # class 0 grows from left to right, class 1 is level
        (classes,) = MobileViTImageProcessor().post_process_semantic_segmentation(
            SimpleNamespace(logits=logits), [(1, 4)]
        )
        assert_same(classes, np.array([[1, 0, 0, 0]]))  # class 0: 0, 1 (a draw goes to the first), 3, 4

    @pytest.mark.torch
    @given(st.integers(1, 150), sides)
    def test_against_transformers(self, height, width):
        processor, reference = MobileViTImageProcessor(), transformers.MobileViTImageProcessorPil()
        tensors = SimpleNamespace(logits=torch.from_numpy(LOGITS).double())
        for targets in (None, [(height, width), (width, height)]):
            ours = processor.post_process_semantic_segmentation(SimpleNamespace(logits=LOGITS), targets, True)
            expected = reference.post_process_semantic_segmentation(tensors, targets, True)
            maps = processor.post_process_semantic_segmentation(SimpleNamespace(logits=LOGITS), targets)
            for result, wanted, classes in zip(ours, expected, maps, strict=True):
                assert_same(result.segmentation_scores, wanted.segmentation_scores, KERNEL_FLOAT32, dtype=np.float32)
                assert_same(result.segmentation, wanted.segmentation)
                assert_same(classes, wanted.segmentation, dtype=np.int64)

    def test_sizes_in_an_array(self):
        sizes = np.array([[3, 4], [5, 6]])
        maps = MobileViTImageProcessor().post_process_semantic_segmentation(SimpleNamespace(logits=LOGITS), sizes)
        assert [classes.shape for classes in maps] == [(3, 4), (5, 6)]

    @pytest.mark.parametrize(
        ("logits", "sizes", "message"),
        [
            (LOGITS[0], None, "outputs.logits: shape (5, 6, 9), expected (B, K, H, W)"),
            (LOGITS, [(3, 4)], "target_sizes: 1 sizes, expected one for each of 2 images"),
            *(
                (LOGITS, [size, (3, 4)], f"target_sizes: {size!r}, expected (height, width), two positive integers")
                for size in [(0, 4), (1,), 3, (2.5, 4), (True, 4), "ab", (1, (2, 3))]
            ),
        ],
    )
    def test_errors(self, logits, sizes, message):
        with pytest.raises(ConfigError) as caught:
            MobileViTImageProcessor().post_process_semantic_segmentation(SimpleNamespace(logits=logits), sizes)
        assert str(caught.value) == message
