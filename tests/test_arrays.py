"""What only looks like an array of numbers is refused in one line wherever arrays are taken; what is one, is taken."""

from types import SimpleNamespace

import numpy as np
import pytest

from tinymvit import MobileViTConfig, MobileViTForImageClassification, MobileViTImageProcessor, kernels, rounding_errors
from tinymvit.comparison.settings import ComparisonSettings
from tinymvit.images.load import load_image, load_segmentation_map
from tinymvit.inspection.dump import Dump, open_dump
from tinymvit.modeling import check_pixel_values
from tinymvit.modeling.losses import classification_loss, segmentation_loss
from tinymvit.numerics import NUMBERS, as_array

PIXELS = np.random.default_rng(0).random((1, 3, 4, 4), np.float32)
CONFIG = MobileViTConfig(num_labels=3)
MASKED = np.ma.masked_less(PIXELS, 0.5)


class Refusing:
    def __array__(self, *_, **__):
        raise RuntimeError("no numbers\nhere")


WRONG = {
    "array with masked values; expected numbers in their place, as `filled` gives them": MASKED,
    "matrix; expected an array of numbers": np.eye(2).view(np.matrix),
    "bytes; expected an array of numbers": b"1 2",
    "str; expected an array of numbers": "1 2",
    "dict; expected an array of numbers": {},
    "set; expected an array of numbers": {1, 2},
    "NoneType; expected an array of numbers": None,
    "list that is no array of numbers: setting an array element": [[1.0, 2.0], [3.0]],
    "Refusing that is no array of numbers: no numbers here": Refusing(),
    "dtype object; expected real numbers": [10**400],
    "dtype complex128; expected real numbers": [1j],
    "dtype datetime64[D]; expected real numbers": np.array(["2020-01-01"], "M8[D]"),
    "dtype [('x', '<f4')]; expected real numbers": np.zeros(2, [("x", "<f4")]),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_array_of_numbers(message):
    with pytest.raises(TypeError) as error:
        as_array(WRONG[message], "x", NUMBERS)
    assert str(error.value).startswith("x: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


TAKERS = {
    "pixel values": lambda x: check_pixel_values(x, 3),
    "labels of images": lambda x: classification_loss(np.zeros((2, 3), np.float32), x, CONFIG),
    "labels of pixels": lambda x: segmentation_loss(np.zeros((2, 3, 4, 4), np.float32), x, CONFIG),
    "logits": lambda x: MobileViTImageProcessor().post_process_semantic_segmentation(SimpleNamespace(logits=x)),
    "pictures": load_image,
    "maps": load_segmentation_map,
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("message", WRONG)
def test_every_taker_refuses_it_in_one_line(taker, message):
    with pytest.raises((TypeError, ValueError)) as error:
        TAKERS[taker](WRONG[message])
    assert "\n" not in str(error.value)
    assert "NoneType' object" not in str(error.value)


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "negative strides": lambda x: x[..., ::-1].copy()[..., ::-1],
    "big-endian": lambda x: x.astype(">f4"),
    "longdouble": lambda x: x.astype(np.longdouble),
    "float64": lambda x: x.astype(np.float64),
    "nothing masked": lambda x: np.ma.masked_array(x, False),
    "lists": lambda x: x.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_however_real_numbers_lie(layout):
    x = check_pixel_values(LAYOUTS[layout](PIXELS), 3)
    assert x.dtype == np.float32
    assert np.array_equal(x, PIXELS)


def test_pixel_values_beyond_float32():
    with pytest.raises(ValueError, match=r"^pixel_values hold inf at \(0, 0, 0, 0\); expected finite numbers$"):
        check_pixel_values(np.full((1, 3, 2, 2), 1e300), 3)


def test_the_shape_of_a_graph():
    model = MobileViTForImageClassification.from_pretrained("digits")
    for wrong in ((1, 3), (1, 4, 8, 8), (0, 3, 8, 8), (1, 3, 8.0, 8), (True, 3, 8, 8)):
        with pytest.raises(ValueError, match=r"; expected \(B, 3, H, W\), whole numbers of at least 1$"):
            model.graph(wrong)


def wrong_tensors(name="x", value=PIXELS):
    return MobileViTForImageClassification.from_tensors(CONFIG, {name: value})


REFUSED = {
    "the path: a list, expected text or a Path": lambda: open_dump([1]),
    "the path: a bytes, expected text or a Path": lambda: open_dump(b"x"),
    "tensors: a name that is no text, expected the names of tensors in PyTorch": lambda: wrong_tensors(name=None),
    "x: list that is no array of numbers: setting an array element": lambda: wrong_tensors(value=[[1.0], [2.0, 3.0]]),
    "names: (1, 'a'), expected a name of theirs and one of ours": lambda: ComparisonSettings(names={1: "a"}),
    "names: ('a', None), expected a name of theirs and one of ours": lambda: ComparisonSettings(names={"a": None}),
    "seed: -1, expected a whole number of at least 0": lambda: MobileViTForImageClassification(CONFIG, seed=-1),
    "seed: nan, expected a whole number of at least 0": lambda: MobileViTForImageClassification(CONFIG, seed=np.nan),
    "label2id: {'a': inf}, expected a mapping of names to class ids": lambda: MobileViTConfig(label2id={"a": np.inf}),
    "size: shortest_edge: 10000000000": lambda: MobileViTImageProcessor(size=10**400),
    "pixel_values hold inf": lambda: MobileViTForImageClassification(CONFIG)(
        **MobileViTImageProcessor(rescale_factor=1e308)(np.full((3, 30, 30), 255, np.uint8))
    ),
    "pack_inverted_residual: depthwise must come from pack_depthwise_conv2d": lambda: kernels.pack_inverted_residual(
        *[PIXELS] * 6
    ),
    "threads must be an integer, not 'xxxx": lambda: kernels.set_num_threads("x" * 10_000),
    "activate: activation must be one of": lambda: kernels.activate(PIXELS, np.zeros((50, 50))),
    "names: 7; expected names of nodes or patterns": lambda: MobileViTForImageClassification(CONFIG).trace(PIXELS, 7),
    "x\\x1b: list that is no array": lambda: as_array([[1], [1, 2]], "x\x1b"),
    "image: shape (9000, 40000, 3): 1.00 GiB of memory, expected at most 1.00 GiB": lambda: load_image(
        np.broadcast_to(np.uint8(9), (9000, 40000, 3))
    ),
    "labels have shape (1, 9, 0); expected (1, height, width)": lambda: segmentation_loss(
        np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 9, 0), int), CONFIG
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_the_line_that_refuses(message):
    with pytest.raises((TypeError, ValueError)) as error:
        REFUSED[message]()
    assert str(error.value).startswith(message)
    assert len(str(error.value)) < 400
    assert str(error.value).isprintable()


def test_labels_beyond_any_loss_do_not_warn(recwarn):
    config = MobileViTConfig(num_labels=1)
    assert classification_loss(np.zeros((2, 1), np.float32), np.array([1e200, 1.0]), config) == np.inf
    assert not recwarn


def test_what_is_no_model_and_no_mapping():
    with pytest.raises(TypeError, match=r"^model: str, expected one of the MobileViT models$"):
        rounding_errors("digits", PIXELS)
    with pytest.raises(TypeError, match=r"^arrays: bytes, expected a mapping of names to arrays$"):
        Dump.of(b"logits")
    with pytest.raises(TypeError, match=r"^logits: an array with masked values"):
        Dump.of({"logits": MASKED})
