"""Checkpoints of a tiny model, in which the weights, their index or a file of settings is wrong."""

import json

import numpy as np

from tinymvit import modeling
from tinymvit.config import MobileViTConfig
from tinymvit.images.processor import MobileViTImageProcessor
from tinymvit.weights import open_checkpoint

from . import models
from .cases import Case
from .random_values import Pairs, file_name, mutated_bytes, mutated_json, pairs, text, written
from .settings import CONFIG, PROCESSOR, json_text


def checkpoint(rng, sandbox):
    """A folder, of which one file is nearly right."""
    folder = sandbox.case / rng.choice(("model", "model", file_name(rng)))
    name = rng.choice(models.CLASSES)
    models.save(folder, name)
    wrong = rng.randrange(6)
    if wrong == 0:
        (folder / "config.json").write_bytes(json_text(rng, CONFIG | {"architectures": [name]}))
    elif wrong == 1:
        (folder / "preprocessor_config.json").write_bytes(json_text(rng, PROCESSOR))
    elif wrong == 2:
        (folder / "model.safetensors").write_bytes(_weights(rng, name))
    elif wrong == 3:
        _in_shards(rng, folder, name)
    elif wrong == 4:
        rng.choice(sorted(folder.iterdir())).unlink()
        (folder / rng.choice(("pytorch_model.bin", "config.json", "x.safetensors", file_name(rng)))).write_bytes(
            b"cos\nsystem\n"
        )
    way = rng.randrange(4)
    where = rng.choice((folder, folder, str(folder), folder / "model.safetensors", folder / "config.json"))

    def load():
        if way == 0:
            loaded = modeling.load_model(where)
            return loaded(models.pixels()[:, :, :9, :9])
        if way == 1:
            return getattr(modeling, name).from_pretrained(where).num_parameters()
        opened = open_checkpoint(where)
        if way == 2:
            return MobileViTConfig.from_pretrained(opened), MobileViTImageProcessor.from_pretrained(opened)
        return {key: tensor.copy() for key, tensor in opened.tensors.items()}

    return Case(load, f"way {way} of {name}, fault {wrong}, {where!r}: {_listing(folder)}")


def _listing(folder):
    small = [path for path in sorted(folder.iterdir()) if path.is_file() and path.stat().st_size < 4000]
    return "; ".join(f"{path.name!r} {path.read_bytes()[:600]!r}" for path in small)


def _weights(rng, name):
    """The bytes of the weights: an entry of the header changed, or the values."""
    entries, data = models.weights_content(name)
    way = rng.randrange(5)
    if way == 0:
        header = written(mutated_json(rng, pairs(entries))).encode("utf-8", "surrogatepass")
        return models.in_file(header, data)
    header = json.dumps(entries).encode()
    if way == 1:
        return mutated_bytes(rng, models.in_file(header, data))
    if way == 2:
        numbers = np.frombuffer(data, np.float32).copy()
        numbers[rng.randrange(len(numbers)) :][: rng.choice((1, 50, len(numbers)))] = rng.choice(
            (np.nan, np.inf, 3e38, 0, 1e-45)
        )
        return models.in_file(header, numbers.tobytes())
    if way == 3:  # tensors that the model lacks, or by another name
        entries = dict(entries)
        key = rng.choice([key for key in entries if key != "__metadata__"])
        entries[rng.choice((text(rng), f"{key}.num_batches_tracked", key.upper(), "classifier.weight"))] = entries.pop(
            key
        )
        return models.in_file(json.dumps(entries).encode("utf-8", "replace"), data)
    return _in_another_dtype(rng, name)


def _in_another_dtype(rng, name):
    short, kind = rng.choice((("F16", "f2"), ("F64", "f8"), ("BF16", "u2"), ("I32", "i4"), ("U8", "u1"), ("BOOL", "?")))
    entries, data, begin = {}, [], 0
    with np.errstate(all="ignore"):
        for key, tensor in models.weights(name).items():
            content = tensor.astype(kind).tobytes()
            entries[key] = {"dtype": short, "shape": list(tensor.shape), "data_offsets": [begin, begin + len(content)]}
            begin += len(content)
            data.append(content)
    return models.in_file(json.dumps(entries).encode(), b"".join(data))


def _in_shards(rng, folder, name):
    """Two shards and their index in place of one file; most often with a mistake."""
    (folder / "model.safetensors").unlink()
    tensors = list(models.weights(name).items())
    cut = rng.randrange(len(tensors))
    places = Pairs()
    for number, part in enumerate((tensors[:cut], tensors[cut:])):
        shard = f"model-0000{number + 1}-of-00002.safetensors"
        entries, data, begin = {}, [], 0
        for key, tensor in part:
            entries[key] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, begin + tensor.nbytes]}
            begin += tensor.nbytes
            data.append(tensor.tobytes())
            places.append((key, shard))
        content = models.in_file(json.dumps(entries).encode(), b"".join(data))
        (folder / shard).write_bytes(mutated_bytes(rng, content) if rng.random() < 0.1 else content)
    index = Pairs([("metadata", Pairs([("total_size", 1)])), ("weight_map", places)])
    way = rng.randrange(5)
    if way == 0:
        index = mutated_json(rng, index)
    elif way == 1:
        at = rng.randrange(len(places))
        other = rng.choice(
            ("../outside/x.safetensors", "/dev/zero", "model.safetensors.index.json", text(rng), "config.json")
        )
        places[at] = (places[at][0], other)
    elif way == 2:
        shard = folder / "model-00001-of-00002.safetensors"
        shard.unlink()
        if rng.random() < 0.7:
            shard.mkdir()
    (folder / "model.safetensors.index.json").write_bytes(written(index).encode("utf-8", "surrogatepass"))
