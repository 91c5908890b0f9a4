"""The HDF5 file format, as far as files of Keras 2 use it (`tf_model.h5`), read in plain Python; written through h5py.

A file of Keras weights has a group for each layer of the model and in it the layer's tensors under their names, which
are paths: `mobilevit/tf_mobile_vi_t_model/mobilevit/conv_stem/convolution/kernel:0`. Attributes list the names once
more, for the order; they are not read. (https://docs.hdfgroup.org/archive/support/HDF5/doc/H5.format.html, and
hdf5_format.py of tf_keras 2.19)

Why not h5py for reading: HDF5's own library follows a file's addresses in C, and some files with a few changed bytes
make it loop for ever, which neither an exception nor Ctrl-C ends. What is read here is all that Keras writes, and what
people make of it: groups as symbol tables or as short lists of links, plain numbers in one piece or in chunks, gzip.
"""

import math
import re
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np

from tinymvit import limits
from tinymvit.errors import CheckpointError, OutputError
from tinymvit.files import open_file as open_to_read
from tinymvit.files import reason
from tinymvit.text import short
from tinymvit.weights.stored import StoredTensor, Writer

NAME = "HDF5"
WEIGHTS_FILE = "tf_model.h5"
FILES: tuple[str, ...] = (WEIGHTS_FILE,)
SUFFIXES: tuple[str, ...] = (".h5", ".hdf5")

MAGIC = b"\x89HDF\r\n\x1a\n"
WHOLE_MODEL = "model_weights"  # the group in which `Model.save` puts what `Model.save_weights` puts into the file
KERAS_3 = re.compile(r"(?:.*/)?vars/[0-9]+")
KERAS_VERSION = "2.19.0"  # of tf_keras, the last that transformers 4 ran on
# Of one file: the parts that its directory consists of, and the characters of a tensor's path. The file of a MobileViT
# has 5000, and 140.
MOST_PARTS, LONGEST_PATH = 50_000, 500
NOWHERE = 2**64 - 1  # the address of what does not exist


def recognise(head: bytes) -> bool:
    """Whether a file that begins so is of this format."""
    return _superblock(head) is not None


def _superblock(content: Any) -> int | None:
    """Where the mark of the format stands: at the beginning, or behind a block of the user's that has 512 bytes, or
    twice as many, and so on."""
    place = 0
    while place < len(content):
        if bytes(content[place : place + len(MAGIC)]) == MAGIC:
            return place
        place = 2 * place or 512
    return None


# ---- reading ----


def open_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file of Keras weights, or of a whole Keras model, by the names that they have in their layer's
    group.

    What is loaded is a read-only view of the memory-mapped file, or a copy where a view cannot serve: numbers that are
    big-endian, unaligned, or in chunks, which may be compressed. Raises CheckpointError naming the file and the tensor,
    also for what leads out of the file: external links, external storage, virtual datasets.
    """
    with open_to_read(path, CheckpointError) as file:
        try:
            data = np.memmap(file, dtype=np.uint8, mode="r").view(np.ndarray)
        except (OSError, ValueError) as failure:
            expected = "cannot be read: " + reason(failure) if isinstance(failure, OSError) else "is empty"
            raise CheckpointError(f"{path}: {expected}") from None
    return _Directory(path, data).tensors()


class _Cursor:
    """A place in a region of the file, which moves on with what is read there."""

    def __init__(self, path: Path, content: memoryview, at: int, size: int | None = None) -> None:
        self.path, self.content, self.at = path, content, at
        self.end = len(content) if size is None else at + size
        if not 0 <= at <= self.end <= len(content):
            self.refuse()

    def take(self, size: int) -> memoryview:
        if size > self.end - self.at:
            self.refuse()
        self.at += size
        return self.content[self.at - size : self.at]

    def number(self, size: int = 8) -> int:
        return int.from_bytes(self.take(size), "little")

    def expect(self, mark: bytes) -> None:
        found = bytes(self.take(len(mark)))
        if found != mark:
            raise CheckpointError(f"{self.path}: byte {self.at - len(mark)}: {found!r}, expected {mark!r}; damaged")

    def refuse(self) -> NoReturn:
        size = len(self.content)
        raise CheckpointError(f"{self.path}: what byte {self.at} says reaches too far, of {size}; truncated or damaged")


class _Message(NamedTuple):
    """A part of an object's header: what it is about by the format's numbers, and its content."""

    kind: int
    is_shared: bool
    content: _Cursor


# Kinds of messages.
DATASPACE, LINK_INFO, DATATYPE, EXTERNAL_FILES, LINK, LAYOUT, FILTERS, CONTINUATION, SYMBOL_TABLE = (
    *(0x01, 0x02, 0x03, 0x07),
    *(0x06, 0x08, 0x0B, 0x10, 0x11),
)
COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL = range(4)  # layouts
GZIP, SHUFFLE = 1, 2  # filters
# How the format describes the floating point numbers that NumPy has: their bits; where the exponent begins, its bits,
# where the mantissa begins, its bits; the exponent's bias.
FLOATS: dict[tuple[int, ...], str] = {
    (16, 10, 5, 0, 10, 15): "f2",
    (32, 23, 8, 0, 23, 127): "f4",
    (64, 52, 11, 0, 52, 1023): "f8",
}


class _Chunk(NamedTuple):
    """A piece of a tensor: where it begins in the tensor, where it lies in the file, which filters it skips by bits."""

    start: tuple[int, ...]
    begin: int
    size: int
    skipped: int


class _Directory:
    """What one file says of its tensors. Each part of it is read once, and there are at most `MOST_PARTS`."""

    def __init__(self, path: Path, data: np.ndarray) -> None:
        self.path, self.data, self.content = path, data, memoryview(data.data)
        self.parts = 0
        self.in_one_piece = self.put_together = 0  # the bytes of all tensors that lie so, and that are loaded so

    def tensors(self) -> dict[str, StoredTensor]:
        found: dict[str, StoredTensor] = {}
        for path, messages in self._datasets(self._root()):
            if KERAS_3.fullmatch(path):
                raise CheckpointError(
                    f"{self.path}: holds the weights of a Keras 3 model, numbered instead of named ({path}); "
                    "expected Keras 2, such as a tf_model.h5 of transformers 4"
                )
            name = path.partition("/")[2] or path  # without the layer
            if name in found:
                raise CheckpointError(f"{self.path}: holds tensor {name} twice")
            found[name] = self._tensor(f"{self.path}: tensor {name}", messages)
        # Chunks may be packed, and any number of tensors may lie in the same bytes.
        beyond_the_file = max(0, self.in_one_piece - len(self.content))
        limits.check(self.put_together + beyond_the_file, f"{self.path}: its tensors", CheckpointError)
        return found

    # ---- the directory ----

    def _root(self) -> int:
        """The address of the header of the outermost group."""
        start = _superblock(self.content)
        if start is None:
            raise CheckpointError(f"{self.path}: is no HDF5 file: its mark stands nowhere in it")
        self.base = start
        head = self._at(len(MAGIC))
        version = head.number(1)
        if version > 3:
            raise CheckpointError(f"{self.path}: version {version} of the HDF5 format, expected 0 to 3")
        if version < 2:
            head.take(4)
        sizes = head.number(1), head.number(1)
        if sizes != (8, 8):
            raise CheckpointError(f"{self.path}: addresses and lengths of {sizes} bytes, expected (8, 8)")
        head.take({0: 9, 1: 13}.get(version, 1))
        head.take(16)  # the base address, and that of the free space or of an extension
        end = head.number()
        if end > len(self.content):
            raise CheckpointError(
                f"{self.path}: has {len(self.content)} of {end} bytes; the file is truncated, fetch it again"
            )
        if version < 2:
            head.take(16)  # a driver's address, and an offset
        return head.number()

    def _datasets(self, root: int) -> Iterator[tuple[str, list[_Message]]]:
        """The headers of all datasets with their paths, of a whole model those below its weights."""
        links = dict(self._links("", self._header(root)))
        pending = [("", links.pop(WHOLE_MODEL))] if WHOLE_MODEL in links else [*links.items()]
        entered = {root}
        while pending:
            path, address = pending.pop()
            if address in entered:
                raise CheckpointError(f"{self.path}: {path} is what another path leads to, expected one for each")
            entered.add(address)
            messages = self._header(address)
            if any(message.kind == LAYOUT for message in messages):
                yield path, messages
            else:
                pending += self._links(path, messages)

    def _links(self, above: str, messages: list[_Message]) -> Iterator[tuple[str, int]]:
        """The paths of what is in a group, and the addresses of their headers."""
        for kind, _, content in messages:
            if kind == SYMBOL_TABLE:
                yield from self._symbols(above, content.number(), content.number())
            elif kind == LINK:
                yield self._link(above, content)
            elif kind == LINK_INFO:
                content.take(1)
                content.take(8 if content.number(1) & 1 else 0)
                if content.number() != NOWHERE:
                    raise CheckpointError(
                        f"{self.path}: the group {above or '/'} lists its parts in a form that is not read here, "
                        "expected the one that h5py and Keras write by default"
                    )

    def _symbols(self, above: str, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        names = self._at(heap)
        names.expect(b"HEAP\0")
        names.take(3)
        size = names.number()
        names.take(8)
        names = self._at(names.number(), size)
        for _, address in self._leaves(tree, 0, 8):
            node = self._at(address)
            node.expect(b"SNOD\1")
            node.take(1)
            for _ in range(node.number(2)):
                self._count()
                offset, target, cached = node.number(), node.number(), node.number(4)
                node.take(20)
                if offset > size:
                    names.refuse()
                name = bytes(names.content[names.at + offset : min(names.end, names.at + offset + LONGEST_PATH + 1)])
                path = self._path(above, name.partition(b"\0")[0])
                if cached == 2:
                    self._refuse_link(path)
                yield path, target

    def _link(self, above: str, content: _Cursor) -> tuple[str, int]:
        content.take(1)
        flags = content.number(1)
        kind = content.number(1) if flags & 8 else 0
        content.take((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
        path = self._path(above, bytes(content.take(content.number(1 << (flags & 3)))))
        if kind:
            self._refuse_link(path)
        return path, content.number()

    def _refuse_link(self, path: str) -> NoReturn:
        raise CheckpointError(f"{self.path}: {path} is a link to another place, expected what it leads to")

    def _path(self, above: str, link: bytes) -> str:
        try:
            name = link.decode("utf-8")
        except UnicodeDecodeError:
            raise CheckpointError(f"{self.path}: holds a name that is no UTF-8 text: {short(link)}") from None
        path = f"{above}/{name}" if above else name
        if len(path) > LONGEST_PATH:
            raise CheckpointError(f"{self.path}: holds a path of more than {LONGEST_PATH} characters: {path[:60]}...")
        return path

    def _leaves(self, tree: int, kind: int, key_size: int) -> Iterator[tuple[_Cursor, int]]:
        """The keys and addresses at the ends of a B-tree: of groups (kind 0) or of chunks (kind 1)."""
        pending, entered = [tree], set()
        while pending:
            address = pending.pop()
            if address in entered:
                raise CheckpointError(f"{self.path}: a list of parts leads back to itself; damaged")
            entered.add(address)
            node = self._at(address)
            node.expect(b"TREE" + bytes([kind]))
            level, count = node.number(1), node.number(2)
            node.take(16)
            for _ in range(count):
                self._count()
                key = _Cursor(self.path, self.content, node.at, key_size)
                node.take(key_size)
                child = node.number()
                if level:
                    pending.append(child)
                else:
                    yield key, child

    def _header(self, address: int) -> list[_Message]:
        """The messages of an object's header."""
        head = self._at(address)
        if bytes(self.content[head.at : head.at + 4]) == b"OHDR":
            head.take(5)
            flags = head.number(1)
            head.take((16 if flags & 32 else 0) + (4 if flags & 16 else 0))
            pending = [self._cursor(head, head.number(1 << (flags & 3)))]
            return [*self._messages(pending, (1, 2, 1, 2 if flags & 4 else 0), b"OCHK")]
        head.expect(b"\1")
        head.take(7)
        size = head.number(4)
        head.take(4)
        return [*self._messages([self._cursor(head, size)], (2, 2, 1, 3), b"")]

    def _messages(self, pending: list[_Cursor], sizes: tuple[int, int, int, int], mark: bytes) -> Iterator[_Message]:
        """The messages in regions of the file. sizes: the bytes of a message's kind, size, flags, and what follows
        these. mark: how a region begins that continues another; it then has four more at its end."""
        entered = {region.at for region in pending}
        while pending:
            region = pending.pop(0)
            while region.end - region.at >= sum(sizes):
                self._count()
                kind, size, flags = (region.number(each) for each in sizes[:3])
                region.take(sizes[3])
                content = self._cursor(region, size)
                region.take(size)
                if kind != CONTINUATION:
                    yield _Message(kind, bool(flags & 2), content)
                    continue
                more = self._at(content.number())
                more = self._cursor(more, content.number())
                more.expect(mark)
                more.end -= 4 if mark else 0
                if more.at in entered:
                    raise CheckpointError(f"{self.path}: a header leads back to itself; damaged")
                entered.add(more.at)
                pending.append(more)

    def _at(self, address: int, size: int | None = None) -> _Cursor:
        return _Cursor(self.path, self.content, self.base + address, size)

    def _cursor(self, outer: _Cursor, size: int) -> _Cursor:
        """The next so many bytes of a region."""
        if size > outer.end - outer.at:
            outer.refuse()
        return _Cursor(self.path, self.content, outer.at, size)

    def _count(self) -> None:
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise CheckpointError(
                f"{self.path}: its directory has more than {MOST_PARTS} parts, expected fewer "
                "(if you trust it, raise tinymvit.weights.formats.hdf5.MOST_PARTS)"
            )

    # ---- a tensor ----

    def _tensor(self, where: str, messages: list[_Message]) -> StoredTensor:
        by_kind = {message.kind: message for message in messages}
        if EXTERNAL_FILES in by_kind:
            raise CheckpointError(f"{where} lies in other files, expected it in this one")
        for kind, what in ((DATATYPE, "dtype"), (DATASPACE, "shape")):
            if kind not in by_kind or by_kind[kind].is_shared:
                raise CheckpointError(f"{where} has no {what} of its own, expected one")
        shape = _shape(where, by_kind[DATASPACE].content)
        dtype = _dtype(where, by_kind[DATATYPE].content)
        size = math.prod(shape) * dtype.itemsize
        layout = by_kind[LAYOUT].content
        version, kind = layout.number(1), layout.number(1)
        if kind == VIRTUAL:
            raise CheckpointError(f"{where} lies in other files, expected it in this one")
        if version == 3 and kind == CHUNKED:
            filters = _filters(where, by_kind[FILTERS].content) if FILTERS in by_kind else []
            return self._in_chunks(where, layout, filters, dtype, shape)
        if version not in (3, 4, 5) or kind not in (COMPACT, CONTIGUOUS):
            raise CheckpointError(
                f"{where} lies in the file in a form that is not read here ({version}.{kind}), expected one that "
                "h5py and Keras write by default"
            )
        if kind == COMPACT:
            held = layout.number(2)
            begin = layout.at
        else:
            address, held = layout.number(), layout.number()
            if address == NOWHERE and size:
                raise CheckpointError(f"{where} has shape {list(shape)} and no numbers: they were never written")
            begin = 0 if address == NOWHERE else self.base + address
        if (held != size and size) or begin + size > len(self.content):
            raise CheckpointError(
                f"{where}: {dtype.name} {list(shape)} needs {size} bytes, the file of {len(self.content)} gives it "
                f"{held} from {begin} on; truncated or damaged"
            )
        self.in_one_piece += size
        return StoredTensor(shape, dtype.name, partial(_mapped, self.data[begin : begin + size], dtype, shape))

    def _in_chunks(
        self, where: str, layout: _Cursor, filters: list[int], dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> StoredTensor:
        axes = layout.number(1) - 1
        tree = layout.number()
        chunk = tuple(layout.number(4) for _ in range(axes))
        if len(shape) != axes or not all(chunk) or layout.number(4) != dtype.itemsize:
            raise CheckpointError(f"{where} has shape {list(shape)} and chunks of {list(chunk)}; damaged")
        found: dict[tuple[int, ...], _Chunk] = {}
        for key, address in () if tree == NOWHERE else self._leaves(tree, 1, 8 * (axes + 2)):
            size, skipped = key.number(4), key.number(4)
            start = tuple(key.number() for _ in range(axes))
            found[start] = _Chunk(start, self.base + address, size, skipped)
        count = math.prod(-(-size // part) for size, part in zip(shape, chunk, strict=True))
        in_place = all(
            begin % part == 0 and begin < size
            for start in found
            for begin, size, part in zip(start, shape, chunk, strict=True)
        )
        inside = all(each.begin + each.size <= len(self.content) for each in found.values())
        if len(found) != count or not in_place or not inside:
            raise CheckpointError(
                f"{where} has {len(found)} chunks of {list(chunk)}, expected the {count} of shape {list(shape)}, all "
                f"within the {len(self.content)} bytes of the file; truncated or damaged"
            )
        self.put_together += math.prod(shape) * dtype.itemsize
        chunks = list(found.values())
        load = partial(_put_together, where, self.data, dtype, shape, chunk, filters, chunks)
        return StoredTensor(shape, dtype.name, load)


def _shape(where: str, content: _Cursor) -> tuple[int, ...]:
    version, axes, _, kind = (content.number(1) for _ in range(4))
    has_values = version == 1 or kind != 2
    content.take(4 if version == 1 else 0)
    shape = tuple(content.number() for _ in range(axes))
    # NumPy's limits for an array, which hold for one without elements too.
    if version not in (1, 2) or not has_values or axes > 32 or math.prod(size or 1 for size in shape) >= 2**60:
        raise CheckpointError(f"{where} has shape {short(list(shape))}, which no array can have")
    return shape


def _dtype(where: str, content: _Cursor) -> np.dtype[Any]:
    """NumPy's dtype for numbers whose bytes it reads as they lie."""
    kind, bits, size = content.number(1) & 15, content.number(3), content.number(4)
    name = None
    if kind == 1 and not bits & 0x40:  # VAX has bytes in an order of its own
        first, precision = content.number(2), content.number(2)
        parts = (precision, *(content.number(1) for _ in range(4)), content.number(4))
        # The sign is the topmost bit, and the mantissa's first, which is always 1, is left out.
        if first == 0 and bits >> 8 & 255 == precision - 1 and bits >> 4 & 3 == 2 and precision == 8 * size:
            name = FLOATS.get(parts)
    elif kind == 0 and (content.number(2), content.number(2)) == (0, 8 * size) and size in (1, 2, 4, 8):
        name = f"{'i' if bits & 8 else 'u'}{size}"
    if name is None:
        raise CheckpointError(f"{where} holds no plain numbers, expected float16 to float64 or integers")
    return np.dtype(f"{'>' if bits & 1 else '<'}{name}")


def _filters(where: str, content: _Cursor) -> list[int]:
    version, count = content.number(1), content.number(1)
    content.take(6 if version == 1 else 0)
    found = []
    for _ in range(count):
        number = content.number(2)
        name = content.number(2) if version == 1 or number >= 256 else 0
        content.take(2)
        values = content.number(2)
        title = bytes(content.take(name)).partition(b"\0")[0].decode("utf-8", "replace")
        content.take(4 * (values + (values % 2 if version == 1 else 0)))
        if number not in (GZIP, SHUFFLE):
            raise CheckpointError(f"{where} is stored with the filter {title or number}, expected gzip or none")
        found.append(number)
    return found


def _mapped(content: np.ndarray, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    return np.require(content.view(dtype).reshape(shape), dtype.newbyteorder("="), ["C", "ALIGNED"])


def _put_together(
    where: str,
    data: np.ndarray,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    filters: list[int],
    chunks: list[_Chunk],
) -> np.ndarray:
    """A tensor from its chunks, of which those at its ends hold more than is inside of it."""
    size = math.prod(chunk) * dtype.itemsize
    limits.check(math.prod(shape) * dtype.itemsize + 3 * size, where, CheckpointError)
    whole = np.empty(shape, dtype)
    for start, begin, stored, skipped in chunks:
        content: Any = data[begin : begin + stored]
        for index in reversed(range(len(filters))):
            if skipped >> index & 1:
                continue
            if filters[index] == GZIP:
                content = _inflated(content, size)
            elif len(content) == size:
                content = np.frombuffer(content, np.uint8).reshape(dtype.itemsize, -1).T.tobytes()
        if len(content) != size:
            raise CheckpointError(f"{where}: its chunk at {list(start)} is damaged, expected {size} bytes in it")
        place = whole[tuple(slice(begin, begin + part) for begin, part in zip(start, chunk, strict=True))]
        place[...] = np.frombuffer(content, dtype).reshape(chunk)[tuple(map(slice, place.shape))]
    return np.require(whole, dtype.newbyteorder("="), "C")


def _inflated(content: Any, size: int) -> bytes:
    """What was deflated, if it has no more bytes than this; else nothing."""
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(content, size)
        return found if inflater.eof or not inflater.decompress(inflater.unconsumed_tail, 1) else b""
    except zlib.error:
        return b""


# ---- writing ----


def tensor_writer(layers: Mapping[str, Mapping[str, np.ndarray]]) -> Writer:
    """A writer for `files.write_files`: the weights of a Keras model as its `save_weights` writes them, to the byte.
    `layers` are the model's in order, with the tensors of each by their paths. Raises OutputError without h5py."""
    try:
        import h5py
    except ImportError:
        raise OutputError(f'{WEIGHTS_FILE}: to write it needs: pip install "tinymvit[h5]"') from None

    def write(file: BinaryIO) -> None:
        # In memory, since the library reads what it has written, which the file that is given does not allow.
        with h5py.File(WEIGHTS_FILE, "w", driver="core", backing_store=False) as root:
            root.attrs["layer_names"] = [layer.encode() for layer in layers]
            root.attrs["backend"] = b"tensorflow"
            root.attrs["keras_version"] = KERAS_VERSION.encode()
            for layer in sorted(layers):
                _write_layer(root, layer, layers[layer])
            _write_layer(root, "top_level_model_weights", {})
            root.flush()
            file.write(root.id.get_file_image())

    return write


def _write_layer(root: Any, layer: str, tensors: Mapping[str, np.ndarray]) -> None:
    group = root.create_group(layer)
    group.attrs["weight_names"] = [path.encode() for path in tensors]
    for path, tensor in tensors.items():
        dataset = group.create_dataset(path, tensor.shape, tensor.dtype, track_times=False)
        dataset[...] = tensor  # a second step, as Keras has it, else the parts of the file lie in another order
