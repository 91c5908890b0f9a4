"""PyTorch's checkpoint files, read without PyTorch and without running anything, through a memory map; and written.

Since PyTorch 1.6 a file is a zip archive: in one folder of any name a pickle of the object that was saved (data.pkl),
in which each tensor names its storage; the bytes of the storages (data/0, data/1 ...); from 2.0 on their byte order.
Before, it was four pickles one after the other (a magic number, a version, facts about the machine, the object), a
fifth with the names of the storages, and these, each with the number of its elements in front.

A pickle can call anything. `pickles` calls nothing; what stands for the few names that tensors need is listed here, and
any other name is an error that says it. A tensor is a view of its storage, by an offset and strides that the file
chooses: each is checked to lie in its storage, and none to have more elements than that, before anything is made.
What the names mean, and a prefix that all have, is left to others.
"""

import math
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from tinymvit import limits
from tinymvit.errors import CheckpointError, OutputError, tell
from tinymvit.files import open_file as open_to_read
from tinymvit.files import reason
from tinymvit.text import count, short, some
from tinymvit.weights.formats.pickles import INERT, MEMORY_OF_A_BYTE, Global, put, unpickle
from tinymvit.weights.formats.zips import DEFLATED, Member, read_directory, read_member
from tinymvit.weights.stored import StoredTensor

if TYPE_CHECKING:
    import zipfile

NAME = "PyTorch"
WEIGHTS_FILE = "pytorch_model.bin"
INDEX_FILE = "pytorch_model.bin.index.json"
FILES: tuple[str, ...] = (WEIGHTS_FILE, INDEX_FILE)
SUFFIXES: tuple[str, ...] = (".bin", ".pt", ".pth", ".pth.tar", ".ckpt", ".bin.index.json")

MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # of the format before the zip archives
# Where a checkpoint of training keeps the weights, the first that there is: averaged ones before the others, as timm
# and ml-cvnets take them.
KEYS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model", "module", "net",
    "network", "weights",
)  # fmt: skip
_DEEPEST = 3  # keys, one in another, under which the weights are looked for

_BFLOAT16 = "bfloat16"  # which NumPy lacks: read as bits, then widened to float32
# PyTorch's dtype -> its storage's class and NumPy's dtype, of the bytes of a little-endian file.
_DTYPES: dict[str, tuple[str, np.dtype[Any]]] = {
    "float64": ("DoubleStorage", np.dtype("<f8")),
    "float32": ("FloatStorage", np.dtype("<f4")),
    "float16": ("HalfStorage", np.dtype("<f2")),
    _BFLOAT16: ("BFloat16Storage", np.dtype("<u2")),
    "int64": ("LongStorage", np.dtype("<i8")),
    "int32": ("IntStorage", np.dtype("<i4")),
    "int16": ("ShortStorage", np.dtype("<i2")),
    "int8": ("CharStorage", np.dtype("i1")),
    "uint8": ("ByteStorage", np.dtype("u1")),
    "bool": ("BoolStorage", np.dtype("?")),
    "uint64": ("", np.dtype("<u8")),
    "uint32": ("", np.dtype("<u4")),
    "uint16": ("", np.dtype("<u2")),
}
# The class of a storage -> its dtype; None for bytes, whose tensors say theirs.
_STORAGES: dict[str, str | None] = {f"torch.{storage}": dtype for dtype, (storage, _) in _DTYPES.items() if storage}
_STORAGES["torch.storage.UntypedStorage"] = None
_ITEM_SIZES: dict[str | None, int] = {dtype: numbers.itemsize for dtype, (_, numbers) in _DTYPES.items()} | {None: 1}
_LOADED_SIZES = _ITEM_SIZES | {_BFLOAT16: 4}
_NAMED_DTYPES = {f"torch.{dtype}": dtype for dtype in _DTYPES}
# What checkpoints of training hold beside the weights: nothing that would run code, and nothing that is needed.
_HARMLESS = frozenset(
    (
        "argparse.Namespace", "types.SimpleNamespace", "collections.defaultdict", "collections.Counter",
        "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct",
        "numpy.ndarray", "numpy.dtype", "_codecs.encode",
        "datetime.datetime", "datetime.date", "datetime.timedelta",
        "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.WindowsPath", "pathlib.PureWindowsPath",
        "torch.device",
        *(f"{builtins}.{name}" for builtins in ("builtins", "__builtin__") for name in (
            "set", "frozenset", "complex", "bytearray", "slice", "range", "list", "dict", "int", "float",
        )),
    )
)  # fmt: skip


class _Storage:
    """The bytes of one or more tensors. begin: of the first in the file, or in what is unpacked from it. dtype: None
    if the storage does not say."""

    __slots__ = ("begin", "bytes", "dtype", "elements", "is_packed", "key")

    def __init__(self, key: str, dtype: str | None, elements: int, begin: int = 0, is_packed: bool = False) -> None:
        self.key, self.dtype, self.elements, self.begin, self.is_packed = key, dtype, elements, begin, is_packed
        self.bytes = elements * _ITEM_SIZES[dtype]

    def __repr__(self) -> str:
        return f"storage {self.key}"


class _Tensor:
    """A tensor as the file describes it: offset and strides in elements; no strides if they are those of C order."""

    __slots__ = ("dtype", "offset", "shape", "size", "storage", "strides")

    def __init__(
        self,
        storage: _Storage,
        dtype: str,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None,
        size: int,
    ) -> None:
        self.storage, self.dtype, self.offset = storage, dtype, offset
        self.shape, self.strides, self.size = shape, strides, size

    def __repr__(self) -> str:
        return f"tensor {self.shape}"


# ---- reading ----


def recognise(head: bytes) -> bool:
    """Whether a file that begins so is a zip archive or a pickle; which others write too, and `open_file` tells."""
    return head[:4] == b"PK\3\4" or (head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"))


def open_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a PyTorch file by name, in the order in which they were saved.

    Of a checkpoint of training they are those of its weights, under the first of `KEYS`; that is said in one line. What
    is loaded is a read-only view of the memory-mapped file; a copy is made of bfloat16, which becomes float32
    (exactly), and where a view cannot serve: other strides than C order's, unaligned or packed bytes, another byte
    order. Raises CheckpointError naming the file and what it holds.
    """
    with open_to_read(path, CheckpointError) as file:
        size = os.fstat(file.fileno()).st_size
        if size < 4:
            raise CheckpointError(f"{path}: {size} bytes, too short for a PyTorch file")
        try:
            data = mmap(file.fileno(), 0, access=ACCESS_READ)
        except (OSError, ValueError) as failure:
            raise CheckpointError(f"{path}: cannot be read: {reason(failure)}") from None
    head = data[:300]
    source: _Archive | _Sequence
    if head[:4] == b"PK\3\4":
        source = _Archive(path, data)
    elif MAGIC in head[:40]:
        source = _Sequence(path, data)
    elif recognise(head):
        raise CheckpointError(f"{path}: is a pickle, but not one of torch.save; expected tensors that torch.save wrote")
    else:
        raise CheckpointError(f"{path}: is no file that torch.save wrote; damaged, or of another format")
    tensors = _weights(path, source.value)
    _count_memory(path, tensors)
    return {name: StoredTensor(tensor.shape, tensor.dtype, source.loader(tensor)) for name, tensor in tensors.items()}


class _Pickle:
    """What stands for the names in a pickle of PyTorch, and for what is made by calling them.

    value: the object that was saved. file: the bytes that hold its storages. order: theirs, as NumPy writes it.
    """

    value: Any
    file: np.ndarray
    order: Literal["<", ">"] = "<"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ordered: dict[int, list[Any]] = {}  # the lists that became dictionaries

    def read(self, data: bytes, begin: int = 0) -> tuple[Any, int]:
        """The object of the pickle that begins there, and where it ends."""
        return unpickle(data, begin, str(self.path), self._find, self._storage)

    def fail(self, problem: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {problem}")

    def _find(self, name: str) -> Global:
        if name in _MADE:
            return Global(name, MethodType(_MADE[name], self))
        if name in _HARMLESS:
            return Global(name, lambda arguments: INERT)
        if name in _STORAGES or name in _NAMED_DTYPES:
            return Global(name)
        is_dtype = name.startswith("torch.") and name.count(".") == 1 and name[6:7].islower()
        if is_dtype or name.startswith("torch._utils._rebuild_") or name.endswith("Storage"):
            raise self.fail(f"holds {name}, expected tensors of {', '.join(_DTYPES)}")
        what = "a whole model, " if name.startswith("torch.nn.") else ""
        raise self.fail(
            f"holds {what}{name}, which would run code when loaded; expected tensors only (if you trust the file, load "
            "it with PyTorch and save the model's state_dict())"
        )

    def _shape(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """torch.Size((1, 2)), which stays the tuple that it is: a copy could be made any number of times."""
        if len(arguments) != 1 or type(arguments[0]) is not tuple:
            raise self.fail(f"calls torch.Size with {short(arguments)}, expected a tuple; damaged")
        found: tuple[Any, ...] = arguments[0]
        return found

    def _ordered(self, arguments: tuple[Any, ...]) -> dict[Any, Any]:
        """A new dictionary; Python 2 gave its items as a list of lists of two."""
        made: dict[Any, Any] = {}
        if not arguments:
            return made
        pairs = arguments[0]
        if len(arguments) > 1 or type(pairs) is not list:
            raise self.fail(f"calls collections.OrderedDict with {short(arguments)}; damaged")
        if id(pairs) in self.ordered:  # which would be copied any number of times
            raise self.fail("calls collections.OrderedDict twice with the same list; damaged")
        self.ordered[id(pairs)] = pairs
        for pair in pairs:
            if type(pair) not in (list, tuple) or len(pair) != 2:
                raise self.fail(
                    f"calls collections.OrderedDict with {short(pair)}, expected a name and a value; damaged"
                )
            put(made, list(pair))
        return made

    def _storage(self, identity: Any) -> _Storage:
        """What stands for ("storage", class, key, device, elements), with a view of another storage in old files."""
        if type(identity) is tuple and len(identity) in (5, 6) and identity[0] == "storage":
            _, kind, key, _, elements = identity[:5]
            is_right = type(kind) is Global and kind.name in _STORAGES and type(key) is str
            if is_right and type(elements) is int and 0 <= elements < 2**60:
                view = identity[5] if len(identity) == 6 else None
                return self.storage(key, _STORAGES[kind.name], elements, view)
        raise self.fail(f"names a storage by {short(identity)}; damaged")

    def storage(self, key: str, dtype: str | None, elements: int, view: Any) -> _Storage:
        """The storage of this key, which the file must have."""
        raise NotImplementedError

    def loader(self, tensor: _Tensor) -> Callable[[], np.ndarray]:
        """What loads a tensor that `value` holds."""
        if tensor.storage.is_packed:
            return partial(self._load_packed, tensor)
        return partial(_load, tensor, self.file, self.order)

    def _load_packed(self, tensor: _Tensor) -> np.ndarray:
        """The values of a tensor whose storage is packed."""
        raise NotImplementedError

    def _rebuilt(self, arguments: tuple[Any, ...]) -> _Tensor:
        """_rebuild_tensor(storage, offset, shape, strides), in version 2 with requires_grad, hooks[, metadata]."""
        if len(arguments) == 6 or len(arguments) == 4 or (len(arguments) == 7 and not arguments[6]):
            storage, offset, shape, strides = arguments[:4]
            if type(storage) is _Storage and storage.dtype is not None:
                return self._tensor(storage, storage.dtype, storage.elements, offset, shape, strides)
        raise self.fail(f"makes a tensor of {short(arguments)}; damaged, or of another kind than plain numbers")

    def _rebuilt_as(self, arguments: tuple[Any, ...]) -> _Tensor:
        """_rebuild_tensor_v3(storage, offset, shape, strides, requires_grad, hooks, dtype[, metadata])"""
        if len(arguments) == 7 or (len(arguments) == 8 and not arguments[7]):
            storage, offset, shape, strides, _, _, named = arguments[:7]
            dtype = _NAMED_DTYPES.get(named.name) if type(named) is Global else None
            if type(storage) is _Storage and dtype is not None and storage.dtype in (None, dtype):
                if storage.dtype is None and self.order == ">" and _ITEM_SIZES[dtype] > 1:
                    raise self.fail(f"makes a tensor of {dtype} of big-endian bytes, which PyTorch does not turn")
                return self._tensor(storage, dtype, storage.bytes // _ITEM_SIZES[dtype], offset, shape, strides)
        raise self.fail(f"makes a tensor of {short(arguments)}; damaged, or of another kind than plain numbers")

    def _tensor(self, storage: _Storage, dtype: str, elements: int, offset: Any, shape: Any, strides: Any) -> _Tensor:
        """A tensor of a storage that has so many elements of the dtype."""
        is_right = type(shape) is tuple and type(strides) is tuple and type(offset) is int and offset >= 0
        if not is_right or len(shape) != len(strides) or len(shape) > 64:
            raise self._misfit(offset, shape, strides, storage, elements)
        size, last, is_plain = 1, offset, True
        for side, stride in zip(shape[::-1], strides[::-1], strict=True):
            if type(side) is not int or type(stride) is not int or side < 0 or stride < 0:
                raise self._misfit(offset, shape, strides, storage, elements)
            if stride != size and side != 1:
                is_plain = False
            last += (side - 1) * stride
            size *= side
        if size == 0:  # reads nothing; NumPy's limit for the other sides holds all the same
            if math.prod(side or 1 for side in shape) >= 2**60:
                raise self._misfit(offset, shape, strides, storage, elements)
        elif last >= elements or size > elements:
            raise self._misfit(offset, shape, strides, storage, elements)
        return _Tensor(storage, dtype, offset, shape, None if is_plain else strides, size)

    def _misfit(self, offset: Any, shape: Any, strides: Any, storage: _Storage, elements: int) -> CheckpointError:
        return self.fail(
            f"a tensor of shape {short(shape)}, strides {short(strides)} and offset {short(offset)} does not fit into "
            f"its storage {storage.key}, which has {count(elements, 'element')}"
        )

    def _parameter(self, arguments: tuple[Any, ...]) -> _Tensor:
        """_rebuild_parameter(tensor, requires_grad, hooks[, attributes])"""
        if len(arguments) not in (3, 4) or type(arguments[0]) is not _Tensor:
            raise self.fail(f"makes a parameter of {short(arguments)}; damaged")
        return arguments[0]


_MADE: dict[str, Callable[[_Pickle, tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor": _Pickle._rebuilt,
    "torch._utils._rebuild_tensor_v2": _Pickle._rebuilt,
    "torch._utils._rebuild_tensor_v3": _Pickle._rebuilt_as,
    "torch._utils._rebuild_parameter": _Pickle._parameter,
    "torch._utils._rebuild_parameter_with_state": _Pickle._parameter,
    "torch.Size": _Pickle._shape,
    "collections.OrderedDict": _Pickle._ordered,
}


class _Archive(_Pickle):
    """The zip format."""

    def __init__(self, path: Path, data: mmap) -> None:
        super().__init__(path)
        self.members = read_directory(data, str(path))
        roots = [name.removesuffix("data.pkl") for name in self.members if name.endswith("/data.pkl")]
        roots = [root for root in roots if root.count("/") == 1]
        if len(roots) != 1:
            raise self.fail(f"is {_other_archive(self.members)}; expected a file that torch.save wrote")
        self.root = roots[0]
        self.folder = f"{self.root}data/"
        if f"{self.root}constants.pkl" in self.members or any(n.startswith(f"{self.root}code/") for n in self.members):
            raise self.fail(
                "is a TorchScript archive, which is a program; expected tensors: load it with torch.jit.load and save "
                "its state_dict()"
            )
        self.data = data
        self.file = np.frombuffer(data, np.uint8)
        self.unpacked: dict[str, np.ndarray] = {}
        if f"{self.root}byteorder" in self.members:
            orders: dict[bytes, Literal["<", ">"]] = {b"little": "<", b"big": ">"}
            said = self._content("byteorder")
            if said not in orders:
                raise self.fail(f"says its byte order is {short(said)}, expected little or big")
            self.order = orders[said]
        size = self.members[f"{self.root}data.pkl"].size
        limits.check(size * MEMORY_OF_A_BYTE, f"{path}: its pickle of {size} bytes may take", CheckpointError)
        self.value, end = self.read(pickle := self._content("data.pkl"))
        if end != len(pickle):
            raise self.fail(f"{len(pickle) - end} bytes follow the pickle, expected none; damaged")

    def _content(self, name: str) -> bytes:
        name = self.root + name
        member = self.members[name]
        limits.check(member.size, f"{self.path}: its member {name}", CheckpointError)
        return read_member(self.data, member, str(self.path), name)

    def storage(self, key: str, dtype: str | None, elements: int, view: Any) -> _Storage:
        member = self.members.get(self.folder + key)
        if member is None:
            raise self.fail(f"lacks the storage {key}, which a tensor is in; damaged")
        _, begin, _, method, size, _ = member
        is_packed = method == DEFLATED
        storage = _Storage(key, dtype, elements, 0 if is_packed else begin, is_packed)
        if size != storage.bytes or view is not None:
            raise self.fail(f"the storage {key} has {size} bytes, expected {storage.bytes}; damaged")
        return storage

    def _load_packed(self, tensor: _Tensor) -> np.ndarray:
        """Each packed storage is unpacked once."""
        key = tensor.storage.key
        if key not in self.unpacked:
            self.unpacked[key] = np.frombuffer(self._content(f"data/{key}"), np.uint8)
        return _load(tensor, self.unpacked[key], self.order)


class _Sequence(_Pickle):
    """The format before the zip archives. Its storages are little endian, whatever machine wrote them."""

    def __init__(self, path: Path, data: mmap) -> None:
        super().__init__(path)
        self.file = np.frombuffer(data, np.uint8)
        self.whole: dict[str, _Storage] = {}  # as the file holds them
        self.views: dict[str, tuple[str, Any]] = {}  # by the key of the view, the storage and the view itself
        self.parts: list[tuple[_Storage, int]] = []  # each that a tensor is in, and where in its whole it begins
        text = data[: limits.get_max_memory() // MEMORY_OF_A_BYTE]  # more than any pickle; nobody knows where it ends
        at = 0
        values = []
        for _ in range(5):
            value, at = self.read(text, at)
            values.append(value)
        magic, version, _, self.value, keys = values
        if magic != int.from_bytes(MAGIC, "little") or version != 1001:
            raise self.fail(f"is of version {short(version)} of PyTorch's older format, expected 1001")
        if type(keys) is not list or not all(type(key) is str for key in keys) or set(keys) != self.whole.keys():
            raise self.fail(f"lists the storages {short(keys)}, expected {short([*self.whole])}; damaged")
        if len(keys) != len(self.whole) or not self.views.keys().isdisjoint(keys):
            raise self.fail("has two storages of one name; damaged")
        for key in keys:
            storage = self.whole[key]
            elements = int.from_bytes(data[at : at + 8], "little")
            if elements != storage.elements:
                raise self.fail(f"the storage {key} has {elements} elements, expected {storage.elements}; damaged")
            storage.begin = at + 8
            at = storage.begin + storage.bytes
            if at > len(data):
                raise self.fail(f"the storage {key} ends at byte {at} of {len(data)}; truncated, fetch it again")
        if at != len(data):
            raise self.fail(f"{len(data) - at} bytes follow the last storage, expected none; damaged")
        for storage, offset in self.parts:
            storage.begin = self.whole[storage.key].begin + offset

    def storage(self, key: str, dtype: str | None, elements: int, view: Any) -> _Storage:
        whole = self.whole.setdefault(key, _Storage(key, dtype, elements))
        if (whole.elements, whole.dtype) != (elements, dtype):
            raise self.fail(f"the storage {key} has {whole.elements} elements and {elements}; damaged")
        begin, length = 0, elements
        if view is not None:  # (key, offset, elements): a part of the storage
            match view:
                case (str(name), int(begin), int(length)) if (
                    0 <= begin <= begin + length <= elements and self.views.setdefault(name, (key, view)) == (key, view)
                ):
                    pass
                case _:
                    raise self.fail(f"the storage {key} is viewed by {short(view)}; damaged")
        part = _Storage(key, dtype, length)
        self.parts.append((part, begin * (whole.bytes // elements if elements else 1)))
        return part


def _load(tensor: _Tensor, data: np.ndarray, order: Literal["<", ">"]) -> np.ndarray:
    """The tensor out of the bytes that its storage is in: a view where it lies there as arrays of its dtype do."""
    _, dtype = _DTYPES[tensor.dtype]
    if order == ">":
        dtype = dtype.newbyteorder(order)
    begin = tensor.storage.begin + tensor.offset * dtype.itemsize
    if not tensor.size:
        array: np.ndarray = np.zeros(tensor.shape, dtype)
    elif tensor.strides is None:
        array = np.ndarray(tensor.shape, dtype, data, begin)
        if dtype.isnative and tensor.dtype != _BFLOAT16 and array.flags.aligned:
            return array
    else:
        item = dtype.itemsize
        steps = zip(tensor.shape, tensor.strides, strict=True)
        strides = tuple(stride * item if side > 1 else item for side, stride in steps)
        array = np.ndarray(tensor.shape, dtype, data, begin, strides)
    if tensor.dtype == _BFLOAT16:  # bfloat16 is the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return np.require(array, array.dtype.newbyteorder("="), ["C", "ALIGNED"])


def _count_memory(path: Path, tensors: Mapping[str, _Tensor]) -> None:
    """Refuse a file whose tensors take more than their bytes in it: many in one storage, and packed ones."""
    loaded = sum([tensor.size * _LOADED_SIZES[tensor.dtype] for tensor in tensors.values()])
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}.values()
    stored = sum([storage.bytes for storage in storages])
    packed = sum([storage.bytes for storage in storages if storage.is_packed])
    limits.check(packed + max(0, loaded - stored), f"{path}: its tensors", CheckpointError)


def _weights(path: Path, value: Any) -> dict[str, _Tensor]:
    """The tensors of a state dict, which is what was saved, or lies in it under one of `KEYS`."""
    if type(value) is _Tensor:
        raise CheckpointError(f"{path}: holds one tensor without a name, expected a dictionary of tensors by name")
    if type(value) is not dict:
        kind = "an object of Python" if value is INERT else f"a {type(value).__name__.lower()}"
        raise CheckpointError(f"{path}: holds {kind}, expected a dictionary of tensors by name (a state_dict)")
    found: dict[Any, Any] = value
    keys: list[Any] = []
    beside: list[Any] = []
    seen: dict[tuple[int, int], bool] = {}
    for _ in range(_DEEPEST):
        key = next((key for key in KEYS if _leads_to_tensors(found.get(key), seen)), None)
        if key is None and not any(type(item) is _Tensor for item in found.values()):
            holders = [key for key, item in found.items() if type(item) is dict and _leads_to_tensors(item, seen)]
            if len(holders) > 1:
                raise CheckpointError(
                    f"{path}: holds tensors under {some([repr(key) for key in holders], 8)}, expected them under one "
                    f"of {', '.join(KEYS)}"
                )
            key = holders[0] if holders else None
        if key is None:
            break
        beside += [other for other in found if other != key]
        keys.append(key)
        found = found[key]
    tensors = {name: item for name, item in found.items() if type(item) is _Tensor}
    if not tensors:
        only = f", only {some([short(key) for key in found], 8)}" if found else ""
        raise CheckpointError(f"{path}: holds no tensors by name{only}; expected a state_dict")
    for name in tensors:
        if type(name) is not str:
            raise CheckpointError(f"{path}: holds a tensor under the key {short(name)}, expected names that are text")
    left = [name for name in found if name not in tensors]
    if keys:
        also = f" (also there: {some([str(key) for key in beside], 8)})" if beside else ""
        tell(f"{path}: the weights are those under {'.'.join(repr(key) for key in keys)}{also}")
    if left:
        tell(f"{path}: left out, since they are no tensors: {some([str(key) for key in left], 8)}")
    return tensors


def _leads_to_tensors(value: Any, seen: dict[tuple[int, int], bool], depth: int = _DEEPEST) -> bool:
    """Whether a value is a dictionary of tensors, or has one under a known key. seen: the answers so far, by identity
    and depth: one dictionary may lie in any number of others."""
    if type(value) is not dict or depth == 0:
        return False
    which = id(value), depth
    if which not in seen:
        seen[which] = any(type(item) is _Tensor for item in value.values()) or any(
            _leads_to_tensors(value.get(key), seen, depth - 1) for key in KEYS
        )
    return seen[which]


def _other_archive(members: Mapping[str, Member]) -> str:
    """What a zip file is that PyTorch did not write."""
    names = {name.rsplit("/", 1)[-1] for name in members}
    if {"config.json", "model.weights.h5"} <= names:
        return "a .keras file of Keras 3"
    if "Manifest.json" in names and any("com.apple.CoreML" in name for name in members):
        return "a packed Core ML model"
    if names and all(name.endswith(".npy") for name in names):
        return "an .npz file of NumPy"
    return "a zip file without a data.pkl in one folder"


# ---- writing ----

_ALIGNMENT = 64  # bytes, of each storage, as PyTorch's own
_ROOT = "archive"


def tensor_writer(tensors: Mapping[str, np.ndarray]) -> Callable[[BinaryIO], object]:
    """A writer for `files.write_files`: `tensors` as a state dict in a zip archive, which `torch.load` reads with
    `weights_only=True`. The same tensors give the same bytes. Raises OutputError for a dtype that we do not write, and
    for a name that is no text."""
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    written = {dtype: storage for dtype, (storage, _) in _DTYPES.items() if storage and dtype != _BFLOAT16}
    for name, array in arrays.items():
        if array.dtype.name not in written:
            raise OutputError(f"tensor {name} has dtype {array.dtype.name}, expected one of {', '.join(written)}")
        if not isinstance(name, str) or name != name.encode("utf-8", "replace").decode():
            raise OutputError(f"tensor {short(name)}: a name that is no text, which PyTorch does not read")

    def write(file: BinaryIO) -> None:
        import zipfile  # which takes longer to import than a checkpoint to read

        with zipfile.ZipFile(file, "w") as archive:
            _add(archive, "data.pkl", _state_dict(arrays))
            _add(archive, "byteorder", b"little")
            for key, array in enumerate(arrays.values()):
                little = np.require(array, array.dtype.newbyteorder("<"), "C")
                _add(archive, f"data/{key}", little.reshape(-1).view(np.uint8).data)
            _add(archive, "version", b"3\n")

    return write


def _add(archive: "zipfile.ZipFile", name: str, content: bytes | memoryview) -> None:
    """One member, stored, its bytes aligned by an extra field of zeros."""
    import zipfile

    member = zipfile.ZipInfo(f"{_ROOT}/{name}", (1980, 1, 1, 0, 0, 0))
    member.create_system = 0  # whatever the system is
    header = archive.start_dir + 30 + len(member.filename) + 4
    padding = -header % _ALIGNMENT
    member.extra = b"FB" + struct.pack("<H", padding) + bytes(padding)
    archive.writestr(member, content)


def _state_dict(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of an OrderedDict of tensors, in protocol 2; the storage of each is called by its number."""
    memo: dict[bytes, int] = {}

    def kept(made: bytes) -> bytes:
        """What makes a value, or fetches it where it was made before."""
        if made in memo:
            return b"h" + bytes([memo[made]])
        memo[made] = len(memo)
        return made + b"q" + bytes([memo[made]])

    def name(module: str, what: str) -> bytes:
        return kept(f"c{module}\n{what}\n".encode())

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(content := value.encode())) + content

    def whole(numbers: Iterable[int]) -> bytes:
        return b"(" + b"".join(map(_whole, numbers)) + b"t"

    pieces = [b"\x80\x02", name("collections", "OrderedDict"), b")R("]
    for key, (tensor, array) in enumerate(arrays.items()):
        strides = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
        pieces += [
            text(tensor), name("torch._utils", "_rebuild_tensor_v2"), b"(",
            b"(", kept(text("storage")), name("torch", _DTYPES[array.dtype.name][0]), text(str(key)), kept(text("cpu")),
            _whole(array.size), b"tQ", _whole(0), whole(array.shape), whole(strides),
            b"\x89", name("collections", "OrderedDict"), b")RtR",
        ]  # fmt: skip
    return b"".join([*pieces, b"u."])


def _whole(number: int) -> bytes:
    """The opcode that pushes a whole number."""
    if number < 2**8:
        return b"K" + bytes([number])
    if number < 2**31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x08" + struct.pack("<q", number)
