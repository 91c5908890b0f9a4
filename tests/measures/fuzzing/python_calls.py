"""Every public function, called from Python with arrays, labels, sizes and settings that are nearly right."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

import tinymvit
from tinymvit import modeling
from tinymvit.config import PRESETS, MobileViTConfig
from tinymvit.images.load import load_image, load_segmentation_map
from tinymvit.images.processor import MobileViTImageProcessor
from tinymvit.inspection.trace import Trace

from . import models
from .cases import Case
from .random_values import array, integer, number, own, scalar, text
from .settings import PROCESSOR

CLASSIFIER, SEGMENTER, BARE = models.CLASSES
MASKED = "array with masked values"  # how a report calls one
NODES = ("logits", "*.scores", "mobilevit.conv_stem*", "*", "[", "pixel_values")


def python_call(rng, sandbox):
    call, told = rng.choice(CALLS)(rng)
    hidden = MASKED in told
    return Case(call, told, agrees=lambda answer, error: _unmasked(answer) if hidden else None)


def _unmasked(answer):
    """A mask says which values are none: whoever passes over it computes with these."""
    return None if answer is None else "accepted an array of which values are masked"


def _pixels(rng):
    return array(rng, rng.choice(((1, 3, 9, 9), (1, 3, 9, 9), (2, 3, 8, 12), (1, 3, 1, 1), models.IMAGE)))


def _about(value):
    """A value as a report tells it."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        return f"{MASKED} of {value.dtype} {value.shape}"
    if isinstance(value, np.ndarray):
        holds = "" if value.dtype.kind not in "fiu" or not value.size else f" from {value.min()} to {value.max()}"
        return f"{type(value).__name__} {value.dtype} {value.shape} strides {value.strides}{holds}"
    if isinstance(value, (list, tuple)) and len(value) < 6:
        return f"{type(value).__name__} of {', '.join(map(_about, value))}"
    if isinstance(value, dict) and len(value) < 6:
        return f"dict of {', '.join(f'{ascii(name)[:50]}: {_about(item)}' for name, item in value.items())}"
    return f"{type(value).__name__} {ascii(value)[:150]}"


def _told(what, *values, **named):
    told = [*map(_about, values), *(f"{name}={_about(value)}" for name, value in named.items())]
    return f"{what}({', '.join(told)})"


def _flag(rng):
    return rng.choice((None, True, False, False))


def classifier(rng):
    model, pixels = models.model(CLASSIFIER), _pixels(rng)
    labels = (
        None if rng.random() < 0.5 else array(rng, rng.choice(((1,), (1, 3), (2,))), rng.choice(("i8", "f4")), 0, 3)
    )
    named = {"output_hidden_states": _flag(rng), "labels": labels, "return_dict": _flag(rng)}
    return lambda: model(pixels, **named), _told("classifier", pixels, **named)


def classifier_with_labels(rng):
    kind = rng.choice((None, "regression", "single_label_classification", "multi_label_classification"))
    problem = models.model(CLASSIFIER).config.replace(problem_type=kind)
    near = (1, 3) if kind in ("regression", "multi_label_classification") else (1,)
    labels = _huge(rng, near) if rng.random() < 0.01 else array(rng, near, rng.choice(("i8", "f4", "i4")), 0, 4)
    pixels = models.pixels()[:, :, :9, :9]

    def call():
        return modeling.MobileViTForImageClassification.from_tensors(problem, models.weights(CLASSIFIER))(
            pixels, labels=labels
        )

    return call, _told(f"classifier, {kind}", labels=labels)


def segmenter(rng):
    model = models.model(SEGMENTER)
    pixels = models.pixels()[:, :, :9, :9] if rng.random() < 0.7 else _pixels(rng)
    near = (1, 9, 9)
    labels = _huge(rng, near) if rng.random() < 0.02 else array(rng, near, rng.choice(("i8", "i4", "u1")), 0, 4)
    return lambda: model(pixels, labels=labels), _told("segmenter", pixels, labels=labels)


def _huge(rng, near):
    """An array of many numbers that are all one number in memory."""
    return np.broadcast_to(np.int64(1), (*near[:-2], *(rng.choice((9, 3000, 20000, 60000)) for _ in near[-2:])))


def bare(rng):
    model, pixels = models.model(BARE), _pixels(rng)
    return lambda: model(pixels, _flag(rng), _flag(rng)), _told("bare model", pixels)


def traced(rng):
    model, pixels = models.model(rng.choice(models.CLASSES)), _pixels(rng)
    named = {
        "names": rng.choice(
            (None, rng.choice(NODES), [rng.choice(NODES)], text(rng), [text(rng)], [], scalar(rng), "logits")
        ),
        "dtype": rng.choice(("float32", "float64", "float64", text(rng), None, np.float32)),
        "source": rng.choice(("reference", "engine", text(rng), None)),
    }
    if rng.random() < 0.3:
        shape = rng.choice(((1, 3, 9, 9), getattr(pixels, "shape", (1, 3, 8, 8))))
        return lambda: dict(iter(Trace(model.graph(shape), model.weights, pixels, **named))), _told(
            "Trace", shape, pixels, **named
        )
    return lambda: model.trace(pixels, **named), _told("trace", pixels, **named)


def attention(rng):
    model, pixels = models.model(rng.choice(models.CLASSES)), _pixels(rng)
    odd = [rng.choice((0, 0, 1, 2, -1, 3, scalar(rng))) for _ in range(3)]
    query = rng.choice(
        ((0, 0), (8, 8), (integer(rng), 1), (scalar(rng), 0), scalar(rng), [1, 2, 3], np.array([1, 2]), (1.0, 2))
    )
    return lambda: model.attention(pixels, *odd, query=query), _told("attention", pixels, *odd, query=query)


def from_tensors(rng):
    name = rng.choice(models.CLASSES)
    tensors = dict(models.weights(name))
    key = rng.choice(list(tensors))
    way = rng.randrange(5)
    if way == 0:
        tensors[key] = given = array(rng, tensors[key].shape)
    elif way == 1:
        tensors[key] = given = rng.choice(
            (scalar(rng), tensors[key].astype(rng.choice(("f2", "f8", ">f4", "c8", "O", "i4"))))
        )
    elif way == 2:
        tensors[rng.choice((text(rng), 5, None, f"{key}.num_batches_tracked", ("a",)))] = given = tensors.pop(key)
    elif way == 3:
        tensors = given = rng.choice((scalar(rng), list(tensors.items()), {}, b"abc", {None: None}, {1: 2}))
    else:
        given = None
    config = models.model(name).config if rng.random() < 0.95 else rng.choice((scalar(rng), {}, models.SETTINGS))

    def call():
        return getattr(modeling, name).from_tensors(config, tensors)(models.pixels()[:, :, :9, :9])

    return call, _told(f"{name}.from_tensors", config, key, given)


def configuration(rng):
    way = rng.randrange(4)
    changes = {
        rng.choice(list(models.SETTINGS)): rng.choice((scalar(rng), [scalar(rng)] * rng.choice((0, 3, 7)), number(rng)))
    }
    if way == 0:
        name = rng.choice((*PRESETS, "apple/mobilevit-small", text(rng), scalar(rng)))
        return lambda: repr(MobileViTConfig.preset(name, **changes)), _told("preset", name, **changes)
    if way == 1:
        return lambda: repr(models.model().config.replace(**changes)), _told("replace", **changes)
    made = rng.choice(models.CLASSES)
    seed = rng.choice((0, 0, integer(rng), scalar(rng)))
    small = {name: value for name, value in changes.items() if not _large(value)}

    def call():
        return getattr(modeling, made)(MobileViTConfig(**models.SETTINGS | small), seed=seed).num_parameters()

    return call, _told(made, seed=seed, **small)


def _large(value):
    """Whether a model of this setting would rightly take much memory."""
    values = value if isinstance(value, list) else [value]
    return any(isinstance(each, (int, float)) and abs(each) > 300 for each in values)


def _image(rng):
    if rng.random() < 0.003:  # much in little memory
        return np.broadcast_to(np.uint8(9), (rng.choice((9000, 40000)), 40000, 3))
    near = rng.choice(((9, 7, 3), (3, 9, 7), (9, 7), (9, 7, 4), (1, 1), (3, 3, 3)))
    given = array(rng, near, rng.choice(("u1", "u1", "f4", "i4", "u2")), 0, rng.choice((1, 1, 200, 300)))
    if rng.random() < 0.3 and isinstance(given, np.ndarray):
        try:
            return Image.fromarray(np.asarray(given)).convert(
                rng.choice(("RGB", "L", "1", "P", "LA", "I", "F", "CMYK"))
            )
        except Exception:  # Pillow makes no picture of this array
            return given
    return given


def image(rng):
    given = _image(rng)
    named = {"convert_rgb": rng.choice((None, True, False, scalar(rng)))}
    if rng.random() < 0.3:
        named["data_format"] = rng.choice(("channels_first", "channels_last", text(rng), 3))
    if rng.random() < 0.2:
        return lambda: load_segmentation_map(given), _told("load_segmentation_map", given)
    return lambda: load_image(given, **named), _told("load_image", given, **named)


def processor(rng):
    images = rng.choice(
        (
            _image(rng),
            [_image(rng)],
            [_image(rng), _image(rng)],
            array(rng, (2, 9, 7, 3), "u1", 0, 200),
            [],
            (),
            scalar(rng),
        )
    )
    maps = None
    if rng.random() < 0.3:
        one = array(rng, (9, 7), rng.choice(("u1", "i4", "f4")), 0, 4)
        maps = rng.choice((one, [one], [one, one], array(rng, (2, 9, 7), "u1", 0, 200), scalar(rng)))
    small = PROCESSOR | {"size": 12, "crop_size": 8}
    settings = (
        {rng.choice(list(small)): rng.choice((scalar(rng), {"height": integer(rng), "width": 3}, True, 8))}
        if rng.random() < 0.5
        else {}
    )
    settings.pop("image_processor_type", None)
    if rng.random() < 0.01:
        settings[rng.choice(("size", "crop_size"))] = {"height": rng.choice((3000, 11000, 40000)), "width": 11000}
    if rng.random() < 0.2:
        settings["return_tensors"] = rng.choice(("np", "pt", text(rng), None, 3))
    if rng.random() < 0.2:
        settings["input_data_format"] = rng.choice(("channels_first", "channels_last", text(rng), 3))
    named = settings | {"segmentation_maps": maps}
    return lambda: MobileViTImageProcessor(**small)(images, **named), _told("processor", images, **named)


def post_process(rng):
    logits = array(rng, rng.choice(((1, 3, 4, 4), (2, 3, 4, 4))))
    side = rng.choice((5, 5, 40, integer(rng), scalar(rng)))
    one = rng.choice(((side, 5), [5, side], np.array([5, 6]), scalar(rng), (5, 6, 7), (np.int64(4), 4)))
    sizes = rng.choice(
        (
            None,
            [one],
            [one],
            [one, one],
            one,
            np.array([[5, 6]]),
            scalar(rng),
            ((side, 4),),
            {5: 6},
            array(rng, (1, 2), "i8", 1, 9),
        )
    )
    outputs = (
        SimpleNamespace(logits=logits)
        if rng.random() < 0.95
        else rng.choice((scalar(rng), logits, (logits,), {"logits": logits}))
    )
    scores = rng.choice((False, True))
    call = MobileViTImageProcessor().post_process_semantic_segmentation
    return lambda: call(outputs, sizes, scores), _told("post_process", logits, sizes, scores, type(outputs).__name__)


_pipelines = {}


def pipeline(rng):
    given = rng.choice((_image(rng), [_image(rng)], [], scalar(rng), (_image(rng), scalar(rng))))
    top_k = rng.choice((5, 1, integer(rng), scalar(rng), np.int64(2)))
    kind, model = rng.choice((("classify", CLASSIFIER), ("segment", SEGMENTER)))
    if kind not in _pipelines:  # made without a file: the model that all cases share, and a processor for small images
        made = object.__new__(
            getattr(tinymvit, "ImageClassificationPipeline" if kind == "classify" else "ImageSegmentationPipeline")
        )
        made.model, made.processor = models.model(model), MobileViTImageProcessor(size=12, crop_size=8)
        _pipelines[kind] = made
    if kind == "classify":
        return lambda: _pipelines["classify"](given, top_k), _told("classify", given, top_k)
    return lambda: _pipelines["segment"](given), _told("segment", given)


def dumps_in_memory(rng):
    ours = {
        "logits": array(rng, (1, 3)),
        "b": array(rng, (1, 2, 3)),
        rng.choice((text(rng), 3, None)): array(rng, (2,)),
    }
    theirs = {name: array(rng, (1, 3)) for name in ours} if rng.random() < 0.9 else rng.choice((scalar(rng), [], {}))
    settings = None
    if rng.random() < 0.2:
        names = rng.choice(({}, {"logits": "b"}, scalar(rng), {text(rng): text(rng)}))
        values = {
            "names": names,
            "layout": rng.choice(("auto", text(rng))),
            "tolerance": rng.choice(("auto", number(rng), scalar(rng))),
        }
        return lambda: tinymvit.ComparisonSettings(**values).relative_tolerance, _told("ComparisonSettings", **values)
    return lambda: tinymvit.compare_dumps(ours, theirs, settings).agrees, _told(
        "compare_dumps", list(ours.values()), theirs
    )


def compare_with_model(rng):
    model = models.model() if rng.random() < 0.9 else rng.choice((scalar(rng), {}, models.weights(CLASSIFIER)))
    theirs = {"pixel_values": _pixels(rng), "logits": array(rng, (1, 3)), rng.choice((text(rng), 4)): array(rng, (2,))}
    isolate = rng.choice((False, True))
    return lambda: tinymvit.compare_with_model(model, theirs, isolate=isolate).first, _told(
        "compare_with_model", *theirs.values()
    )


def rounding_errors(rng):
    model = models.model() if rng.random() < 0.8 else rng.choice((scalar(rng), {}, models.pixels()))
    pixels = _pixels(rng)
    return lambda: tinymvit.rounding_errors(model, pixels).to_dict(), _told("rounding_errors", model, pixels)


def names(rng):
    """What is no name, for everything that takes one."""
    given = rng.choice((scalar(rng), text(rng), text(rng), b"abc", ["a"], {"a": 1}, models.pixels(), object()))
    given = own(given) if isinstance(given, str) else given
    call = rng.choice(
        (
            tinymvit.open_dump,
            MobileViTConfig.from_pretrained,
            MobileViTImageProcessor.from_pretrained,
            modeling.MobileViTForImageClassification.from_pretrained,
            tinymvit.ImageClassificationPipeline,
            lambda name: tinymvit.compare(name, {"logits": np.ones((1, 3))}),
            lambda name: tinymvit.compare({"logits": np.ones((1, 3))}, name),
            lambda name: load_image(name),
        )
    )
    return lambda: call(given), _told(getattr(call, "__qualname__", "call"), given)


def threads(rng):
    given = rng.choice((scalar(rng), np.int64(1), [1], 1, 2))
    return lambda: tinymvit.set_num_threads(given), _told("set_num_threads", given)


def vectors(rng):
    """No vectors are written: each call has something in it that is refused."""
    model = rng.choice((models.model(), scalar(rng), {}))
    format = rng.choice(("npy", text(rng), None))
    size = rng.choice((None, (5, 5), scalar(rng), (0, 1), (1, 2, 3), (integer(rng), 4)))
    folder = "vectors"

    def call():
        Path(folder).mkdir()
        Path(folder, "mine").touch()
        try:
            tinymvit.write_vectors(model, folder, format, size)
        finally:
            Path(folder, "mine").unlink()

    return call, _told("write_vectors", model, folder, format, size)


CALLS = (
    classifier, classifier_with_labels, segmenter, bare, traced, attention, from_tensors, from_tensors, configuration,
    image, image, image, processor, processor, post_process, post_process, pipeline, pipeline, dumps_in_memory,
    compare_with_model, names, names, threads, vectors, rounding_errors,
)  # fmt: skip
