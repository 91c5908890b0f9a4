"""HDF5 files of weights in which bytes, addresses and lengths are wrong. What was not changed must be read rightly.

No other reader is asked about the changed ones: HDF5's own library loops for ever on some of them.
"""

import io
from functools import cache

import numpy as np

from tinymvit.weights.formats import hdf5

from .cases import Case
from .random_values import mutated_bytes

# Numbers of addresses and lengths that a careless reader follows too far; -1 stands for the file's own size.
NUMBERS = (0, 1, 7, 8, 96, 2**16, 2**31, 2**32, 2**63 - 8, 2**63, 2**64 - 1, 2**64 - 8, -1)


def hdf5_file(rng, sandbox):
    path = sandbox.case / rng.choice(("tf_model.h5", "x.hdf5", "x"))
    kind = rng.randrange(4)
    content, expected = base(kind)
    is_changed = rng.random() < 0.95
    if is_changed:
        content = mutated_bytes(rng, content) if rng.random() < 0.3 else with_wrong_numbers(rng, content)
    path.write_bytes(content)

    def read():
        return {name: tensor.load() for name, tensor in hdf5.open_file(path).items()}

    def agrees(answer, error):
        if is_changed:
            return None
        if answer is None or answer.keys() != expected.keys():
            return "other names than were written"
        right = all(np.array_equal(answer[name], expected[name]) for name in expected)
        return None if right else "other numbers than were written"

    return Case(read, f"file {kind}, changed: {is_changed}, {content[:300]!r}", agrees=agrees)


def with_wrong_numbers(rng, content):
    """Some of the numbers of 8, 4 or 2 bytes in it are others, or one part stands where another was."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        size = rng.choice((8, 8, 4, 2, 1))
        at = rng.randrange(len(content) // size) * size
        if rng.random() < 0.3:
            begin = rng.randrange(len(content) // 8) * 8
            content[at : at + 8 * size] = content[begin : begin + 8 * size]
        else:
            number = rng.choice((*NUMBERS, rng.randrange(len(content))))
            number = len(content) if number < 0 else number
            content[at : at + size] = (number % 256**size).to_bytes(size, "little")
    return bytes(content)


@cache
def base(kind):
    """A right file, and its tensors: as Keras writes it; with numbers in chunks; in the newer form; of a whole model,
    behind a block of the user's."""
    import h5py

    settings = {2: {"libver": ("v108", "v108")}, 3: {"userblock_size": 512}}.get(kind, {})
    in_chunks = {"chunks": (2, 3), "compression": "gzip", "shuffle": True} if kind == 1 else {}
    written = io.BytesIO()
    expected = {}
    with h5py.File(written, "w", **settings) as root:
        top = root.create_group("model_weights") if kind == 3 else root
        for layer, dtype in (("mobilevit", "f4"), ("classifier", ">f8" if kind == 1 else "f2")):
            group = top.create_group(layer)
            for number in range(3):
                name = f"model/{layer}/layer.{number}/kernel:0"
                expected[name] = np.arange(20, dtype=dtype).reshape(4, 5) + number
                group.create_dataset(name, data=expected[name], **in_chunks)
            group.attrs["weight_names"] = [name.encode() for name in expected]
    return written.getvalue(), expected
