"""The limit of memory: who sets it, what it refuses, and that nothing is taken before it is asked."""

import re

import numpy as np
import pytest

from command_line import run
from tinymvit import (
    MobileViTConfig,
    MobileViTForImageClassification,
    MobileViTImageProcessor,
    compare,
    compare_dumps,
    limits,
    reference,
    rounding_errors,
    segment,
    write_vectors,
)
from tinymvit.errors import ImageError, TinyMViTError
from tinymvit.modeling.losses import segmentation_loss
from tinymvit.modeling.outputs import SemanticSegmenterOutput
from tinymvit.networks import mobilevit


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.delenv(limits.VARIABLE, raising=False)
    yield
    limits.set_max_memory(None)


def test_the_default_is_one_gibibyte():
    assert limits.get_max_memory() == 2**30
    limits.check(2**30, "a thing")


def test_more_is_refused_in_a_line():
    message = "a thing: 1.00 GiB of memory, expected at most 1.00 GiB (TINYMVIT_MAX_MEMORY raises it)"
    with pytest.raises(TinyMViTError, match=f"^{re.escape(message)}$"):
        limits.check(2**30 + 1, "a thing")
    with pytest.raises(ImageError, match=r"^a thing: 4547\.47 TiB of memory"):
        limits.check(5 * 10**15, "a thing", ImageError)
    limits.set_max_memory(7)
    message = r"^a thing: 8 bytes of memory, expected at most 7 bytes \(set_max_memory raises it\)$"
    with pytest.raises(ValueError, match=message):
        limits.check(8, "a thing")


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 2**30), ("1000", 1000), ("4G", 2**32), ("500m", 500 * 2**20), ("2GiB", 2**31), ("1kB", 1024), ("1T", 2**40)],
)
def test_the_environment_changes_it(monkeypatch, text, size):
    monkeypatch.setenv(limits.VARIABLE, text)
    assert limits.get_max_memory() == size
    limits.set_max_memory(5)
    assert limits.get_max_memory() == 5
    limits.set_max_memory(None)
    assert limits.get_max_memory() == size


@pytest.mark.parametrize("text", ["4X", "-1", "4 G", "1e9", "٤G", "9" * 19, "inf", "0", "0G"])
def test_an_environment_that_is_no_size(monkeypatch, text):
    monkeypatch.setenv(limits.VARIABLE, text)
    with pytest.raises(ValueError, match=r"^TINYMVIT_MAX_MEMORY is .*; expected a number of bytes, such"):
        limits.check(1, "a thing")


def test_what_is_no_number_of_bytes():
    for wrong in (1.5, "4G", True):
        with pytest.raises(TypeError, match=r"^max_memory is a \w+; expected a whole number of bytes, or None$"):
            limits.set_max_memory(wrong)
    with pytest.raises(ValueError, match=r"^max_memory is below 1; expected a number of bytes$"):
        limits.set_max_memory(0)


# ---- who asks ----

DIGITS = MobileViTForImageClassification.from_pretrained("digits")
LARGE = np.broadcast_to(np.float32(0.5), (1, 3, 9000, 9000))  # which takes four bytes
LOGITS = SemanticSegmenterOutput(None, np.zeros((1, 21, 4, 4), np.float32))


def without_checking_pixels(monkeypatch):
    """A model that looks at no pixel: there are as many as only this test gives."""
    monkeypatch.setattr("tinymvit.modeling.models.check_pixel_values", lambda pixels, channels: pixels)
    monkeypatch.setattr("tinymvit.error_budget.measure.check_pixel_values", lambda pixels, channels: pixels)


ASKERS = {
    "the values between the layers for an input of 1 x 3 x 9000 x 9000": lambda: DIGITS(LARGE),
    "the reference's float32 values for an input of 1 x 3 x 9000 x 9000": lambda: DIGITS.trace(LARGE),
    "the reference's float64 values for an input of 1 x 3 x 9000 x 9000": lambda: rounding_errors(DIGITS, LARGE),
    "the reference's float64 values for an input of 1 x 3 x 8000 x 9000": lambda: write_vectors(
        DIGITS, "never", size=(8000, 9000)
    ),
    "pixel_values: shape (1, 3, 400000, 400000)": lambda: DIGITS.trace(
        np.broadcast_to(np.float32(0), (1, 3, 400_000, 400_000))
    ),
    "segmentation map: shape (100000, 100000)": lambda: MobileViTImageProcessor()(
        np.zeros((3, 4, 4), np.uint8), np.broadcast_to(np.uint8(0), (100_000, 100_000))
    ),
    "a network of ": lambda: MobileViTForImageClassification(MobileViTConfig(hidden_sizes=[10**6] * 3)),
    "image: 1 x 90000 resized to 224 x 20160000": lambda: MobileViTImageProcessor()(np.zeros((1, 90_000), np.uint8)),
    "target_sizes: a map of 30000 x 30000": lambda: MobileViTImageProcessor().post_process_semantic_segmentation(
        LOGITS, [(30_000, 30_000)]
    ),
    "target_sizes: a map of 1 x 100000000": lambda: MobileViTImageProcessor().post_process_semantic_segmentation(
        LOGITS, [(1, 10**8)]
    ),
    "labels of shape (1, 11000, 11000)": lambda: segmentation_loss(
        LOGITS.logits, np.broadcast_to(np.int64(1), (1, 11_000, 11_000)), MobileViTConfig(num_labels=21)
    ),
    "logits in float64": lambda: compare_dumps(
        {"logits": np.broadcast_to(np.int8(1), (1, 2 * 10**8))}, {"logits": np.broadcast_to(np.int8(1), (1, 2 * 10**8))}
    ),
    "a picture of 9000 x 9000 and its mask": lambda: segment(np.broadcast_to(np.uint8(1), (3, 9000, 9000))),
}


@pytest.mark.parametrize("what", ASKERS)
def test_each_asks_before_the_work(what, monkeypatch):
    without_checking_pixels(monkeypatch)
    monkeypatch.setattr("tinymvit.comparison.pairing.TensorStatistics", None)
    with pytest.raises(
        ValueError, match=r" of memory, expected at most 1\.00 GiB \(TINYMVIT_MAX_MEMORY raises it\)$"
    ) as e:
        ASKERS[what]()
    assert str(e.value).startswith(what)
    assert "\n" not in str(e.value)


def test_a_comparison_asks(monkeypatch):
    pixels = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    limits.set_max_memory(100_000)
    with pytest.raises(TinyMViTError, match=r"^the reference's float64 values for an input of 1 x 3 x 64 x 64: "):
        compare(DIGITS, {"pixel_values": pixels, "logits": np.zeros((1, 10), np.float32)})


def test_a_trace_of_the_first_nodes_asks_for_no_more(monkeypatch):
    pixels = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    limits.set_max_memory(700_000)
    with pytest.raises(TinyMViTError, match=r"^the reference's float64 values "):
        DIGITS.trace(pixels, dtype="float64")
    limits.set_max_memory(600_000)
    assert list(DIGITS.trace(pixels, "pixel_values", dtype="float64")) == ["pixel_values"]


def test_the_published_shapes_stay_below_it():
    for shape, side in (("small", 256), ("deeplabv3-small", 512)):
        record = mobilevit.semantic_segmentation if side == 512 else mobilevit.image_classification
        graph = record(MobileViTConfig.preset(shape), (1, 3, side, side))
        reference.check_memory(graph)


def test_a_batch_is_taken_with_fewer_images_at_once():
    pixels = np.random.default_rng(0).random((4, 3, 64, 64), np.float32)
    expected = DIGITS(pixels).logits
    limits.set_max_memory(300_000)
    assert np.array_equal(DIGITS(pixels).logits, expected)


def test_a_loss_by_bands_is_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((2, 5, 4, 6), np.float32), rng.integers(0, 5, (2, 30, 40))
    labels[:, :3] = 255
    config = MobileViTConfig(num_labels=5)
    expected = segmentation_loss(logits, labels, config)
    monkeypatch.setattr("tinymvit.modeling.losses.BAND_NUMBERS", 40 * 5 * 3)
    assert segmentation_loss(logits, labels, config) == expected


def test_the_command_line_says_it_in_one_line(capsys):
    code, out, err = run(capsys, "bench", "--shape", "small", "--size", "30000x30000", "--against", "none")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("tinymvit: pixels of 1 x 3 x 30000 x 30000: 10.05 GiB of memory, expected at most 1.00 GiB")
