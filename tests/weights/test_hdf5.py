"""HDF5 files of Keras weights, which h5py writes here in all forms that are met, and in many that are refused."""

import hashlib
import sys
import zlib

import numpy as np
import pytest

from checkpoints import complaint
from oracle import assert_same
from tinymvit import limits, weights
from tinymvit.errors import CheckpointError, OutputError
from tinymvit.files import write_files
from tinymvit.weights.formats import hdf5, open_file

h5py = pytest.importorskip("h5py", reason="h5py, which writes the files, is not installed")

NAMES = (
    "model/mobilevit/conv_stem/convolution/kernel:0",
    "model/mobilevit/conv_stem/normalization/gamma:0",
    "model/mobilevit/encoder/layer.0/layer.0/kernel:0",
)
HEAD = "model/classifier/kernel:0"


def arrays(dtype="<f4"):
    rng = np.random.default_rng(0)
    shapes = dict(zip((*NAMES, HEAD), ((3, 3, 3, 4), (4,), (1, 1, 4, 8), (16, 3)), strict=True))
    return {name: (8 * rng.random(shape)).astype(dtype) for name, shape in shapes.items()}


def keras_file(path, dtype="<f4", *, names="variable", group="/", file=(), **dataset):
    """A file as Keras 2 writes it. names: how the names of the weights stand in the attributes."""
    with h5py.File(path, "w", **dict(file)) as root:
        top = root.require_group(group)
        top.attrs["layer_names"] = [b"mobilevit", b"dropout", b"classifier"]
        tensors = arrays(dtype)
        for layer in ("mobilevit", "dropout", "classifier", "top_level_model_weights"):
            part = top.create_group(layer)
            own = [name for name in tensors if f"/{layer}/" in name]
            if names == "variable":
                part.attrs["weight_names"] = [name.encode() for name in own]
            elif names == "fixed":
                part.attrs["weight_names"] = np.array([name.encode() for name in own])
            else:
                for number, name in enumerate(own):
                    part.attrs[f"weight_names{number}"] = np.array([name.encode()])
            for name in own:
                part.create_dataset(name, data=tensors[name], **dataset)
    return path


FORMS = {
    "as Keras writes it": {},
    "names of fixed length": {"names": "fixed"},
    "names in several attributes": {"names": "several"},
    "a whole model": {"group": "model_weights"},
    "behind a block of the user's": {"file": {"userblock_size": 2048}},
    "in HDF5 1.8's own form": {"file": {"libver": ("v108", "v108")}},
    "in HDF5 1.10's own form": {"file": {"libver": ("v110", "v110")}},
    "with the order of creation": {"file": {"track_order": True, "libver": ("v108", "v108")}},
    "with times": {"track_times": True},
    "float16": {"dtype": "<f2"},
    "float64": {"dtype": "<f8"},
    "big-endian": {"dtype": ">f4"},
    "integers": {"dtype": "<i2"},
    "compressed": {"compression": "gzip"},
    "compressed, its bytes shuffled": {"compression": "gzip", "shuffle": True},
    "compressed, big-endian": {"dtype": ">f8", "compression": "gzip", "shuffle": True},
    "in chunks": {"chunks": True},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_tensor_is_read_in_every_form(tmp_path, form):
    path = keras_file(tmp_path / "tf_model.h5", **FORMS[form])
    found = open_file(path)
    expected = arrays(FORMS[form].get("dtype", "<f4"))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        loaded = found[name].load()
        assert (found[name].shape, found[name].dtype) == (tensor.shape, tensor.dtype.name)
        assert loaded.flags.c_contiguous
        assert loaded.dtype.isnative
        assert_same(loaded, tensor.astype(loaded.dtype), name=name)


def test_chunks_that_reach_over_the_edge_and_single_numbers_and_none(tmp_path):
    rng = np.random.default_rng(1)
    expected = {
        "x/edge": rng.random((7, 5, 3), np.float32),
        "x/single": np.float32(3.5),
        "x/none": np.ones((0, 3), np.float32),
        "x/plain none": np.ones((0, 3), np.float32),
        "x/skipped": rng.random((4, 4), np.float32),
    }
    with h5py.File(tmp_path / "x.h5", "w") as root:
        root.create_dataset("l/x/edge", data=expected["x/edge"], chunks=(3, 2, 2), compression="gzip")
        root["l/x/single"] = expected["x/single"]
        root.create_dataset("l/x/none", data=expected["x/none"], chunks=(2, 3), maxshape=(None, 3))
        root["l/x/plain none"] = expected["x/plain none"]
        skipped = root.create_dataset("l/x/skipped", (4, 4), "f4", chunks=(4, 4), compression="gzip", shuffle=True)
        skipped.id.write_direct_chunk((0, 0), expected["x/skipped"].tobytes(), filter_mask=3)  # both filters
    found = open_file(tmp_path / "x.h5")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].shape == np.shape(tensor)
        assert_same(found[name].load(), tensor, name=name)


def test_numbers_in_one_piece_are_mapped_and_cannot_be_changed(tmp_path):
    tensor = open_file(keras_file(tmp_path / "x.h5"))[NAMES[0]].load()
    assert not tensor.flags.owndata
    assert not tensor.flags.writeable


def test_the_format_is_recognised_whatever_the_suffix(tmp_path):
    path = keras_file(tmp_path / "weights.bin")
    assert open_file(path).keys() == arrays().keys()
    assert hdf5.recognise(path.read_bytes()[:512])
    assert hdf5.recognise(bytes(1024) + hdf5.MAGIC)
    assert not hdf5.recognise(bytes(1000) + hdf5.MAGIC)
    assert not hdf5.recognise(b"")


# ---- what is refused ----


def linked(root):
    root["mobilevit/soft"] = h5py.SoftLink("/mobilevit/x")


def linked_out(root):
    root["mobilevit/out"] = h5py.ExternalLink("/etc/passwd", "x")


def linked_in_the_newer_form(root):
    group = h5py.h5g.create(root.id, b"new", gcpl=_creation_order())
    group.links.create_external(b"out", b"/etc/passwd", b"x")


def _creation_order():
    created = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    created.set_link_creation_order(h5py.h5p.CRT_ORDER_TRACKED)
    return created


def virtual(root):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    root["mobilevit"].create_virtual_dataset("x", layout)


def stored_elsewhere(root):
    root["mobilevit"].create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def looped(root):
    root["mobilevit/again"] = root["mobilevit"]


def looped_to_the_top(root):
    root["mobilevit/again"] = root["/"]


def twice(root):
    root["classifier/model/x"] = root["mobilevit/model/x"] = np.ones(3, np.float32)


def deep(root):
    root["mobilevit/" + "a/" * 300 + "x"] = np.ones(3, np.float32)


def many_links(root):
    group = h5py.h5g.create(root.id, b"many", gcpl=_creation_order())
    for number in range(20):
        h5py.h5g.create(group, f"{number}".encode())


def bytes_as_a_name(root):
    root[b"mobilevit/\xff\xfe"] = np.ones(3, np.float32)


def of_keras_3(root):
    root["layers/conv2d/vars/0"] = np.ones(3, np.float32)


def put(name="mobilevit/x", **dataset):
    return lambda root: root.create_dataset(name, **dataset)


def of_type(stored, shape=(4,)):
    def build(root):
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(root["mobilevit"].id, b"x", stored, space)

    return build


def brain_float():
    stored = h5py.h5t.IEEE_F32LE.copy()
    stored.set_fields(15, 7, 8, 0, 7)
    stored.set_precision(16)
    stored.set_size(2)
    stored.set_ebias(127)
    return stored


def lacking_a_chunk(root):
    dataset = root.create_dataset("mobilevit/x", (40, 40), "f4", chunks=(10, 10))
    dataset[:10] = 1


def of_chunks_in_the_latest_form(root):
    root.create_dataset("mobilevit/x", data=np.ones((4, 4), np.float32), chunks=(2, 2))


NO_NUMBERS = "tensor x holds no plain numbers, expected float16 to float64 or integers"
ELSEWHERE = "tensor x lies in other files, expected it in this one"
REFUSED = [
    (linked, "mobilevit/soft is a link to another place, expected what it leads to"),
    (linked_out, "mobilevit/out is a link to another place"),
    (linked_in_the_newer_form, "new/out is a link to another place"),
    (virtual, ELSEWHERE),
    (stored_elsewhere, ELSEWHERE),
    (looped, "mobilevit/again is what another path leads to, expected one for each"),
    (looped_to_the_top, "mobilevit/again is what another path leads to"),
    (twice, "holds tensor model/x twice"),
    (deep, "holds a path of more than 500 characters: mobilevit/a/a/"),
    (many_links, "the group many lists its parts in a form that is not read here"),
    (bytes_as_a_name, "holds a name that is no UTF-8 text: b'\\xff\\xfe'"),
    (of_keras_3, "holds the weights of a Keras 3 model, numbered instead of named (layers/conv2d/vars/0)"),
    (put(data=b"text"), NO_NUMBERS),
    (put(data=["text"], dtype=h5py.string_dtype()), NO_NUMBERS),
    (put(data=np.zeros(2, [("a", "f4"), ("b", "i4")])), NO_NUMBERS),
    (put(data=np.ones(2, bool)), NO_NUMBERS),
    (put(data=np.ones(2, complex)), NO_NUMBERS),
    (of_type(h5py.h5t.NATIVE_LDOUBLE), NO_NUMBERS),
    (of_type(h5py.h5t.NATIVE_DOUBLE.copy()), "tensor x has shape [4] and no numbers: they were never written"),
    (of_type(brain_float()), NO_NUMBERS),
    (put(data=h5py.Empty("f4")), "tensor x has shape [], which no array can have"),
    (put(shape=(2**40, 2**40), dtype="f4", chunks=(1, 1)), "which no array can have"),
    (put(shape=(2**40,), dtype="f4", chunks=(2**20,)), "tensor x has 0 chunks of [1048576], expected the 1048576"),
    (lacking_a_chunk, "tensor x has 4 chunks of [10, 10], expected the 16 of shape [40, 40]"),
    (put(data=np.ones(9, "f4"), compression="lzf"), "tensor x is stored with the filter lzf, expected gzip or none"),
    (put(data=np.ones(9, "f4"), fletcher32=True), "tensor x is stored with the filter fletcher32, expected gzip"),
    (put(data=np.ones(9, "f4"), scaleoffset=2, chunks=True), "tensor x is stored with the filter"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[build.__name__ for build, _ in REFUSED])
def test_what_is_refused(tmp_path, build, message):
    path = keras_file(tmp_path / "tf_model.h5")
    with h5py.File(path, "a") as root:
        build(root)
    with complaint(CheckpointError, f"{path}: ", message):
        open_file(path)


def test_what_only_the_latest_form_has_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as root:
        of_chunks_in_the_latest_form(root)
    with complaint(CheckpointError, "x.h5: tensor x lies in the file in a form that is not read here (4.2)"):
        open_file(tmp_path / "x.h5")


def test_a_directory_of_more_parts_than_any_model_has_is_refused(tmp_path, monkeypatch):
    path = keras_file(tmp_path / "x.h5")
    monkeypatch.setattr(hdf5, "MOST_PARTS", 20)
    with complaint(CheckpointError, f"{path}: its directory has more than 20 parts, expected fewer (if you trust it"):
        open_file(path)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    content = keras_file(tmp_path / "x.h5").read_bytes()
    for size in range(0, len(content), 397):
        path = tmp_path / "short.h5"
        path.write_bytes(content[:size])
        with complaint(CheckpointError, f"{path}: "):
            open_file(path)


@pytest.mark.parametrize("content", [b"", b"\x89HDF", b"MZ" + bytes(2000), hdf5.MAGIC, hdf5.MAGIC + b"\xff" * 600])
def test_what_is_no_hdf5_file_is_refused(tmp_path, content):
    (tmp_path / "tf_model.h5").write_bytes(content)
    for read in (open_file, hdf5.open_file):
        with complaint(CheckpointError, f"{tmp_path / 'tf_model.h5'}: "):
            read(tmp_path / "tf_model.h5")


def test_damage_in_a_compressed_tensor_is_said_when_it_is_read(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as root:
        for name, content in {"bomb": zlib.compress(bytes(2**22)), "short": zlib.compress(b"abc"), "no": b"x"}.items():
            dataset = root.create_dataset(f"l/{name}", (4, 4), "f4", chunks=(4, 4), compression="gzip")
            dataset.id.write_direct_chunk((0, 0), content)
    found = open_file(tmp_path / "x.h5")
    for name in ("bomb", "short", "no"):
        with complaint(
            CheckpointError, f"x.h5: tensor {name}: its chunk at [0, 0] is damaged, expected 64 bytes in it"
        ):
            found[name].load()


def test_a_compressed_tensor_counts_for_its_size(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as root:
        root.create_dataset("l/x", data=np.zeros(2**20, np.float32), chunks=(2**18,), compression="gzip")
    tensor = open_file(tmp_path / "x.h5")["x"]
    limits.set_max_memory(2**20)
    try:
        with complaint(CheckpointError, "x.h5: tensor x: 7.00 MiB of memory, expected at most 1.00 MiB"):
            tensor.load()
    finally:
        limits.set_max_memory(None)


def test_all_that_is_put_together_from_chunks_is_counted_before_it_is_loaded(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "x.h5", "w") as root:
        for number in range(20):
            root.create_dataset(f"l/x{number}", data=np.zeros(2**14, np.float32), chunks=(2**14,), compression="gzip")
    assert len(open_file(tmp_path / "x.h5")) == 20
    monkeypatch.setattr(limits, "get_max_memory", lambda: 2**20)
    with complaint(CheckpointError, "x.h5: its tensors: 1.25 MiB of memory, expected at most 1.00 MiB"):
        open_file(tmp_path / "x.h5")


def test_tensors_that_lie_in_the_same_bytes_are_counted(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "x.h5", "w") as root:
        place = root.create_dataset("l/x", data=np.arange(2**14, dtype=">f4")).id.get_offset()
        for number in range(20):
            root.create_dataset(f"l/x{number}", (2**14,), ">f4")
    layout, size = b"\3\1", (2**16).to_bytes(8, "little")
    content = (tmp_path / "x.h5").read_bytes()
    assert content.count(layout + b"\xff" * 8 + size) == 20  # never written
    content = content.replace(layout + b"\xff" * 8 + size, layout + place.to_bytes(8, "little") + size)
    (tmp_path / "x.h5").write_bytes(content)
    assert len(open_file(tmp_path / "x.h5")) == 21
    monkeypatch.setattr(limits, "get_max_memory", lambda: 2**20)
    with complaint(CheckpointError, "x.h5: its tensors: 1.2", " MiB of memory, expected at most 1.00 MiB"):
        open_file(tmp_path / "x.h5")


def test_a_list_of_parts_that_leads_back_to_itself_ends(tmp_path):
    """HDF5's own library follows some of these for ever."""
    content = keras_file(tmp_path / "x.h5").read_bytes()
    marks = [at for at in range(0, len(content), 8) if content[at : at + 4] == b"TREE" and content[at + 6]]
    for at in marks:
        level, child = at + 5, at + 32
        changed = bytearray(content)
        changed[level] = 1
        changed[child : child + 8] = at.to_bytes(8, "little")
        (tmp_path / "y.h5").write_bytes(changed)
        with complaint(CheckpointError, "y.h5: a list of parts leads back to itself; damaged"):
            open_file(tmp_path / "y.h5")


# ---- writing ----


def test_what_is_written_has_keras_form(tmp_path):
    layers = {
        "mobilevit": {name: arrays()[name] for name in NAMES},
        "dropout_27": {},
        "classifier": {HEAD: arrays()[HEAD]},
    }
    for name in ("x.h5", "y.h5"):
        write_files(tmp_path, {name: hdf5.tensor_writer(layers)})
    with h5py.File(tmp_path / "x.h5") as root:
        assert list(root.attrs["layer_names"]) == ["mobilevit", "dropout_27", "classifier"]
        assert (root.attrs["backend"], root.attrs["keras_version"]) == ("tensorflow", "2.19.0")
        assert list(root) == ["classifier", "dropout_27", "mobilevit", "top_level_model_weights"]
        assert list(root["mobilevit"].attrs["weight_names"]) == list(NAMES)
        assert root["dropout_27"].attrs["weight_names"].size == 0
        for name in NAMES:
            assert_same(root["mobilevit"][name][()], arrays()[name], name=name)
            assert root["mobilevit"][name].chunks is None
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("x.h5", "y.h5")}
    assert len(digests) == 1


def test_reading_needs_no_h5py_and_writing_says_so(tmp_path, monkeypatch):
    path = keras_file(tmp_path / "tf_model.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert len(weights.load_tensors(path)) == 4
    with complaint(OutputError, 'tf_model.h5: to write it needs: pip install "tinymvit[h5]"'):
        hdf5.tensor_writer({})
