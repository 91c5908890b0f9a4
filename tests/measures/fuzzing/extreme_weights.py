"""Weights that are extreme but finite, run through whole models: the engine against the NumPy reference."""

import numpy as np

from tinymvit import modeling
from tinymvit.ops import BatchNorm

from . import models
from .cases import Case

EXTREMES = (0.0, 1e-45, 1e-38, 1e-30, 1e-12, 1e6, 1e12, 1e19, 1e30, 1e38, 3e38, -1.0, -1e38, -1e-45)
SAFE = 1e35  # magnitudes up to which float32 cannot overflow in another order of the same sums
TIMES = 100  # how much worse than the reference's own float32 the engine may be,
FLOOR = 1e-3  # unless it is better than this, relative to the largest magnitude


def weights_of_models(rng, sandbox):
    name = rng.choice(models.CLASSES)
    tensors, told = dict(models.weights(name)), []
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        key = rng.choice(list(tensors))
        if rng.random() < 0.4:
            key = rng.choice([key for key in tensors if "normalization" in key or "layernorm" in key])
        tensor, extreme, way = tensors[key].copy(), np.float32(rng.choice(EXTREMES)), rng.randrange(3)
        if way == 0:
            tensor.reshape(-1)[rng.randrange(tensor.size)] = extreme
        elif way == 1:
            tensor[...] = extreme
        else:
            with np.errstate(all="ignore"):
                tensor = np.clip(tensor * extreme, -3.4e38, 3.4e38).astype("f4")
        tensors[key] = tensor
        told.append(f"{key} {('one', 'all', 'times')[way]} {extreme:g}")
    if rng.random() < 0.3:
        told.append(_same_network(rng, tensors))
    scale = np.float32(rng.choice((1, 1, 1, 0, 1e-40, 1e10, 1e38, -1)))
    pixels = models.pixels()[:, :, :20, :20] * scale
    config = models.model(name).config

    def call():
        model = getattr(modeling, name).from_tensors(config, tensors)
        outputs = model(pixels, return_dict=False)
        return model, outputs[0]

    def agrees(answer, error):
        return None if answer is None else _difference(answer[0], pixels, answer[1])

    return Case(call, f"{name}, {'; '.join(told)}, pixels times {scale:g}", agrees=agrees)


def _same_network(rng, tensors):
    """Weights and statistics changed in ways that cancel, but for rounding: a convolution as many times larger as the
    normalisation behind it expects; a mean that the shift takes back."""
    key = rng.choice([key for key in tensors if key.endswith("normalization.running_var")])
    norm = key.removesuffix(".running_var")
    convolution = f"{norm.removesuffix('normalization')}convolution.weight"
    scaled = rng.random() < 0.5
    # Beside a mean of more than a thousand, float32 leaves too little of the values for any order of steps to be right.
    times = np.float32(10.0 ** rng.randint(-18, 18 if scaled else 3))
    with np.errstate(all="ignore"):
        if scaled:
            tensors[convolution] = tensors[convolution] * times
            tensors[f"{norm}.running_mean"] = tensors[f"{norm}.running_mean"] * times
            tensors[key] = tensors[key] * times * times
            return f"{norm} after weights times {times:g}"
        deviation = np.sqrt(tensors[key] + np.float32(1e-5))
        tensors[f"{norm}.running_mean"] = tensors[f"{norm}.running_mean"] + times
        tensors[f"{norm}.bias"] = tensors[f"{norm}.bias"] + times / deviation * tensors[f"{norm}.weight"]
    return f"{norm} around {times:g}"


def _norms(model):
    return [[model.weights[name] for name in node.weights] for node in model.graph() if isinstance(node.op, BatchNorm)]


def _is_scale_finite(tensors):
    weight, _, _, variance = tensors
    with np.errstate(all="ignore"):
        return np.isfinite(weight / np.sqrt(variance + np.float32(1e-5))).all()


def _difference(model, pixels, engine):
    if not all(map(_is_scale_finite, _norms(model))):
        return None  # as in PyTorch, which multiplies by the scale, it is then NaN; the reference scales in two steps
    result = "logits" if "logits" in model.graph().outputs else "last_hidden_state"
    largest, values = {}, {}
    for dtype in ("float32", "float64"):
        trace = model.trace(pixels, dtype=dtype)
        finite = [np.abs(value[np.isfinite(value)]).max(initial=0) for value in trace.values()]
        largest[dtype] = max(finite)
        values[dtype] = trace[model.graph().outputs[result]]
        if any(np.isinf(value).any() for value in trace.values()):
            return None  # beyond the format somewhere: another order of the same sums may not be
    if max(largest.values()) > SAFE:
        return None
    if not np.array_equal(np.isnan(values["float32"]), np.isnan(values["float64"])):
        return None
    if not np.array_equal(np.isfinite(engine), np.isfinite(values["float32"])):
        return "the engine's numbers are finite where the reference's are not, or the reverse"
    exact = values["float64"]
    scale = np.abs(exact[np.isfinite(exact)]).max(initial=0)
    if scale == 0:
        return None
    errors = [np.nanmax(np.abs(value - exact), initial=0) / scale for value in (engine, values["float32"])]
    if errors[0] > max(FLOOR, TIMES * errors[1]):
        return "the engine is far less exact than the reference in float32"
    return None
