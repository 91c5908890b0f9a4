"""config.json, preprocessor_config.json and the ranges of int8: fields of a wrong type, too large, twice, nested,
unknown."""

import json
from dataclasses import asdict
from functools import cache

import numpy as np

from tinymvit import reference
from tinymvit.config import MobileViTConfig
from tinymvit.images.processor import MobileViTImageProcessor
from tinymvit.networks import mobilevit
from tinymvit.networks.random_weights import as_trained
from tinymvit.quantisation.calibration import observe
from tinymvit.quantisation.ranges import FORMAT, VERSION, Ranges

from .cases import Case
from .random_values import mutated_bytes, mutated_json, pairs, scalar, text, written

CONFIG = {
    "architectures": ["MobileViTForImageClassification"],
    "model_type": "mobilevit",
    "num_channels": 3,
    "image_size": [32, 32],
    "patch_size": 2,
    "hidden_sizes": [8, 8, 8],
    "neck_hidden_sizes": [4, 4, 4, 8, 8, 8, 16],
    "num_attention_heads": 2,
    "mlp_ratio": 2.0,
    "expand_ratio": 1.0,
    "hidden_act": "silu",
    "conv_kernel_size": 3,
    "output_stride": 32,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-5,
    "qkv_bias": True,
    "aspp_out_channels": 8,
    "atrous_rates": [6, 12, 18],
    "aspp_dropout_prob": 0.1,
    "semantic_loss_ignore_index": 255,
    "problem_type": None,
    "output_hidden_states": False,
    "return_dict": True,
    "id2label": {"0": "a", "1": "b", "2": "c"},
    "label2id": {"a": 0, "b": 1, "c": 2},
    "torch_dtype": "float32",
}
PROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 36},
    "resample": 2,
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_flip_channel_order": True,
    "do_reduce_labels": False,
    "image_processor_type": "MobileViTImageProcessor",
}
KINDS = {"config.json": (CONFIG, MobileViTConfig), "preprocessor_config.json": (PROCESSOR, MobileViTImageProcessor)}


def json_text(rng, values):
    """The bytes of a JSON file with these values: right, or with a mistake or a few."""
    content = pairs(dict(values))
    if rng.random() < 0.3:
        rng.shuffle(content)
    if rng.random() < 0.8:
        content = mutated_json(rng, content)
    data = written(content).encode("utf-8", "surrogatepass")
    return mutated_bytes(rng, data) if rng.random() < 0.1 else data


def settings_file(rng, sandbox):
    """A file, read, changed, written and read again."""
    name = rng.choice(list(KINDS))
    values, kind = KINDS[name]
    path = sandbox.case / name
    content = json_text(rng, values)
    path.write_bytes(content)

    def read():
        settings = kind.from_pretrained(path)
        settings.save_pretrained(sandbox.case / "saved")
        repr(settings)
        return settings, kind.from_pretrained(sandbox.case / "saved" / name)

    def agrees(answer, error):
        if answer is None:
            return None
        try:
            json.loads(content.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return "accepted what json refuses"
        return None if answer[0].to_dict() == answer[1].to_dict() else "read otherwise after it was saved"

    return Case(read, f"{kind.__name__}.from_pretrained of {content[:900]!r}", ("saved",), agrees=agrees)


@cache
def _network():
    """A tiny network, its weights, and ranges of them."""
    config = MobileViTConfig.from_dict(CONFIG)
    graph = mobilevit.image_classification(config, (1, 3, 32, 32)).select(["logits"])
    weights = as_trained(graph)
    return graph, weights, observe(graph, weights, [np.random.default_rng(0).random((1, 3, 32, 32), np.float32)])


def ranges():
    """The values of a right file of ranges."""
    found = asdict(_network()[2])
    return {"format": FORMAT, "version": VERSION} | found | {"size": list(found["size"])}


def ranges_file(rng, sandbox):
    """A file of ranges, read, used, written and read again."""
    path = sandbox.case / "ranges.json"
    values = ranges()
    if rng.random() < 0.5:  # of the numbers in it
        name = rng.choice(list(values["ranges"]))
        values["ranges"] = values["ranges"] | {name: rng.choice((scalar(rng), [scalar(rng), scalar(rng)], [0, 1e-40]))}
        path.write_text(json.dumps(values, default=repr), "utf-8")
    else:
        path.write_bytes(json_text(rng, values))
    content = path.read_bytes()

    def read():
        found = Ranges.load(path)
        found.save(sandbox.case / "saved.json")
        graph, weights, _ = _network()
        quantised = found.quantised(graph, weights)
        reference.run(*quantised, np.zeros((1, 3, 32, 32), np.float32), np.float32)
        return found, Ranges.load(sandbox.case / "saved.json")

    def agrees(answer, error):
        return None if answer is None or answer[0] == answer[1] else "read otherwise after it was saved"

    return Case(read, f"Ranges.load of {content[:900]!r}", ("saved.json",), agrees=agrees)


def settings_from_python(rng, sandbox):
    """The same as a dictionary, or as arguments."""
    values, kind = rng.choice(list(KINDS.values()))
    values = dict(values)
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        name = rng.choice(list(values)) if rng.random() < 0.9 else text(rng)
        values[name] = rng.choice((scalar(rng), [scalar(rng)], (scalar(rng), scalar(rng)), {scalar(rng): scalar(rng)}))
    given = values if rng.random() < 0.9 else rng.choice((scalar(rng), list(values), b"abc", [values]))
    way = rng.randrange(3)

    def read():
        if way == 0 and isinstance(given, dict):
            made = kind(**{name: value for name, value in given.items() if name in values and name in _fields(kind)})
        else:
            made = kind.from_dict(given)
        repr(made)
        return made.to_dict()

    return Case(read, f"{kind.__name__}, way {way}, {given!r}"[:900])


def _fields(kind):
    return CONFIG if kind is MobileViTConfig else PROCESSOR
