"""Calibration: ranges over pictures, whatever lies in the folder."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tinymvit
from checkpoints import complaint
from command_line import DIGIT, IMAGES
from tinymvit import MobileViTConfig, MobileViTForImageClassification, MobileViTForSemanticSegmentation, reference
from tinymvit.engine import Engine
from tinymvit.errors import ConfigError, ImageError, TinyMViTError
from tinymvit.images.processor import MobileViTImageProcessor
from tinymvit.passes.quantise import in_need_of_ranges
from tinymvit.quantisation.calibration import Seen, sized
from tinymvit.quantisation.ranges import folded
from torch_models import TINY


@pytest.fixture(scope="module", params=[MobileViTForImageClassification, MobileViTForSemanticSegmentation])
def model(request):
    from tinymvit.networks.random_weights import as_trained

    plain = request.param(MobileViTConfig(**TINY))
    return request.param.from_tensors(plain.config, as_trained(plain.graph()))


@pytest.fixture
def pictures(tmp_path):
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    return tmp_path


def pixels_of(folder, processor):
    return [processor(path).pixel_values for path in sorted(folder.iterdir())]


def test_min_max_holds_every_number_that_was_seen(model, pictures):
    ranges = tinymvit.calibrate(model, pictures)
    assert (ranges.method, ranges.percentile, ranges.images, ranges.size) == ("min-max", None, 3, (32, 32))
    graph = model.graph().select(["logits"])
    plain, weights = folded(graph, model.weights)
    assert list(ranges.ranges) == in_need_of_ranges(plain)
    processor = sized(MobileViTImageProcessor(), 32, 32)
    ends = {name: [] for name in ranges.ranges}
    for pixels in pixels_of(pictures, processor):
        for node, value in reference.steps(plain, weights, pixels):
            if node.name in ends:
                ends[node.name] += [value.min(), value.max()]
    for name, (low, high) in ranges.ranges.items():
        if name == "pixel_values":
            assert (low, high) == (0, 1)
        else:
            assert (low, high) == pytest.approx((min(ends[name]), max(ends[name])), rel=1e-4, abs=1e-5)


def test_a_percentile_leaves_out_a_few(model, pictures):
    whole = tinymvit.calibrate(model, pictures)
    part = tinymvit.calibrate(model, pictures, method="percentile", percentile=99)
    assert (part.method, part.percentile) == ("percentile", 99.0)
    narrower = 0
    for name, (low, high) in part.ranges.items():
        assert whole.ranges[name][0] <= low <= high <= whole.ranges[name][1]
        narrower += whole.ranges[name] != (low, high)
    assert narrower > len(part.ranges) / 2
    ends = tinymvit.calibrate(model, pictures, method="percentile", percentile=100).ranges
    assert ends == whole.ranges


def test_the_order_of_pictures_does_not_count(model, pictures):
    paths = sorted(pictures.iterdir())
    one, other = (
        tinymvit.calibrate(model, names, method="percentile", percentile=99.9) for names in (paths, paths[::-1])
    )
    assert one == other


def test_pictures_of_every_kind(model, pictures):
    array = np.asarray(Image.open(pictures / "0.png"))
    one = tinymvit.calibrate(model, pictures / "0.png")
    for same in (str(pictures / "0.png"), array, Image.fromarray(array), [array], [pictures / "0.png"]):
        assert tinymvit.calibrate(model, same) == one
    assert tinymvit.calibrate(model, [pictures, array]).images == 4


def test_a_name_is_loaded_with_its_own_processor():
    ranges = tinymvit.calibrate("digits", IMAGES)
    assert ranges.size == (128, 128)
    assert ranges.images > 5


def test_another_size(model, pictures):
    assert tinymvit.calibrate(model, pictures, size=48).size == (48, 48)
    assert tinymvit.calibrate(model, pictures, size=(33, 47)).size == (33, 47)


@pytest.mark.parametrize(
    ("given", "size", "expected"),
    [
        ({}, (256, 256), {"shortest_edge": 224}),  # as it is
        ({"size": 288}, (256, 256), {"shortest_edge": 288}),
        ({"size": 288}, (512, 512), {"shortest_edge": 576}),
        ({"size": 288}, (128, 96), {"shortest_edge": 144}),
        ({"size": {"height": 9, "width": 9}}, (128, 96), {"shortest_edge": 128}),
        ({"size": 288, "do_center_crop": False}, (128, 96), {"shortest_edge": 128}),
        ({"size": 100}, (128, 96), {"shortest_edge": 128}),
    ],
)
def test_pictures_are_cut_to_the_size_with_the_same_share_cut_off(given, size, expected):
    processor = sized(MobileViTImageProcessor(**given), *size)
    assert processor.size == expected
    assert processor.crop_size == {"height": size[0], "width": size[1]}
    if expected["shortest_edge"] != 224:
        assert processor(np.zeros((70, 90, 3), np.uint8)).pixel_values.shape == (1, 3, *size)


def test_a_broken_picture_is_named_and_left_out(model, pictures):
    whole = tinymvit.calibrate(model, pictures)
    (pictures / "broken.png").write_bytes(b"\x89PNG and nothing more")
    with pytest.warns(UserWarning, match=r"broken\.png: .*; left out$"):
        assert tinymvit.calibrate(model, pictures) == whole


def test_pictures_that_cannot_be_used(model, tmp_path):
    with complaint(ImageError, f"{tmp_path}: no pictures in this folder"):
        tinymvit.calibrate(model, tmp_path)
    with complaint(ImageError, "images: none, expected pictures to calibrate on"):
        tinymvit.calibrate(model, [])
    with complaint(ImageError, "missing.png: "):
        tinymvit.calibrate(model, tmp_path / "missing.png")
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="left out"), complaint(ImageError, "0.png: ", "; nor can any other of 3"):
        tinymvit.calibrate(model, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "entropy"}, "method: 'entropy', expected min-max or percentile"),
        ({"method": 3}, "method: 3, expected min-max or percentile"),
        ({"percentile": 50}, "percentile: 50, expected a number above 50, at most 100"),
        ({"percentile": 101}, "percentile: 101, expected a number above 50, at most 100"),
        ({"percentile": None}, "percentile: None, expected a number above 50, at most 100"),
        ({"size": 0}, "size: 0, expected a side or (height, width), whole numbers of at least 1"),
    ],
)
def test_settings_that_mean_nothing(model, settings, message):
    with complaint(ConfigError, message):
        tinymvit.calibrate(model, DIGIT, **settings)


def test_weights_that_give_no_numbers(pictures):
    model = MobileViTForImageClassification(MobileViTConfig(**TINY))
    model.weights["classifier.bias"] = np.full(5, np.inf, np.float32)
    with complaint(TinyMViTError, "classifier: from inf to inf, expected at most 1e+12 for int8"):
        tinymvit.calibrate(model, pictures)


def test_memory_does_not_grow_with_the_pictures(model):
    """Whatever is seen, a node keeps its bins and nothing else."""
    seen = Seen(count=True)
    for size in (1, 1000, 3):
        seen.add(np.linspace(-size, size, 100, dtype=np.float32), "x")
        assert seen.counts.shape == (4096,)
    assert seen.counts.sum() == 300


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), min_size=1, max_size=6),
    st.floats(50.5, 100),
)
def test_a_percentile_is_that_of_all_numbers_to_a_bin(values, percentile):
    seen, other = Seen(count=True), Seen(count=True)
    for value in values:
        seen.add(np.float32(value), "x")
    for value in values[::-1]:
        other.add(np.float32(value), "x")
    numbers = np.sort(np.float32([x for value in values for x in value])).astype(float)
    low, high = seen.range(percentile)
    assert (low, high) == other.range(percentile)
    assert numbers[0] <= low <= high <= numbers[-1]
    most = (1 - percentile / 100) * len(numbers)
    assert (numbers < low).sum() <= most
    assert (numbers > high).sum() <= most
    if seen.step:  # one bin less at an end would leave out too many
        assert (numbers < low + 1.001 * seen.step).sum() > most
        assert (numbers >= high - 1.001 * seen.step).sum() > most


def test_zeros_alone(model):
    seen = Seen(count=True)
    seen.add(np.zeros(5, np.float32), "x")
    assert seen.range(99) == (0, 0)
    seen.add(np.float32([-4]), "x")
    assert seen.range(60) == (0, 0)


def test_the_bits_are_the_engine_s(model, pictures):
    """So that they are the same on every machine: the engine computes them, whatever is merged elsewhere."""
    ranges = tinymvit.calibrate(model, pictures / "0.png")
    pixels = sized(MobileViTImageProcessor(), 32, 32)(pictures / "0.png").pixel_values
    engine = Engine(model.graph().select(["logits"]), model.weights)
    values = {node.name: x for node, x in engine.trace(pixels)}
    shared = [name for name in ranges.ranges if name in values and name != "pixel_values"]
    assert shared
    for name in shared:
        assert ranges.ranges[name] == pytest.approx((values[name].min(), values[name].max()), rel=1e-5, abs=1e-6)
