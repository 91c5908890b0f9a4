"""Zip files: the directory read and checked, each member as a range of the file's bytes.

The members of a checkpoint that are stored as they are can be mapped, which `zipfile` offers no way to; and what it
leaves unchecked is checked here: a directory and local headers that say different things, members that overlap, or
lie outside of the file, two of one name. What the members mean is left to `pytorch`.
"""

from __future__ import annotations

import struct
import zlib
from mmap import mmap
from typing import Any, NamedTuple

from tinymvit import limits
from tinymvit.errors import CheckpointError

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_WIDE_END = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s4x2H4x3L4H6xL")  # of the directory; versions, dates and attributes left out
_OWN = struct.Struct("<6x2H16x2H")  # a member's own header, but for its signature
_WIDE = 0xFFFFFFFF  # in a field of 32 bits: the number stands in the extra field of 64-bit numbers
_ENCRYPTED, _DESCRIPTOR, _UTF8, _HIDDEN = 0x1, 0x8, 0x800, 0x2000
STORED, DEFLATED = 0, 8
_MEMORY_OF_AN_ENTRY = 600  # bytes


class Member(NamedTuple):
    """One member: where its header begins and its bytes do, how they are packed, how many they are unpacked, and their
    checksum."""

    header: int
    begin: int
    end: int
    method: int
    size: int
    checksum: int


def read_directory(data: mmap, where: str) -> dict[str, Member]:
    """The members of the zip file by name, in the directory's order. Raises CheckpointError for a file that is damaged,
    truncated, encrypted, or packed by a method other than deflate; `where` begins the messages."""

    def fail(problem: str) -> CheckpointError:
        return CheckpointError(f"{where}: {problem}")

    entries, at, stop = _directory(data, where)
    if entries * _ENTRY.size > stop - at:
        raise fail(f"the zip directory lists {entries} members in {stop - at} bytes; the file is damaged")
    limits.check(entries * _MEMORY_OF_AN_ENTRY + stop - at, f"{where}: its {entries} members", CheckpointError)
    directory, listed = at, data[at:stop]
    members: dict[str, Member] = {}
    at, stop = 0, len(listed)
    for _ in range(entries):
        if stop - at < _ENTRY.size:
            raise fail("the zip directory is truncated")
        signature, flags, method, checksum, packed, size, name_length, extra_length, comment_length, disk, offset = (
            _ENTRY.unpack_from(listed, at)
        )
        begin = at + _ENTRY.size
        raw = listed[begin : begin + name_length]
        entry, at = at, begin + name_length + extra_length + comment_length
        if signature != b"PK\1\2" or at > stop or disk not in (0, 0xFFFF):
            raise fail("the zip directory is damaged")
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437", "backslashreplace")
        if size == _WIDE or packed == _WIDE or offset == _WIDE:
            extra = listed[at - comment_length - extra_length : at - comment_length]
            size, packed, offset = _widened(extra, (size, packed, offset), where)
        if flags & (_ENCRYPTED | _HIDDEN):
            raise fail(f"the member {name} is encrypted")
        if method not in (STORED, DEFLATED):
            raise fail(f"the member {name} is packed by method {method}, expected stored or deflated")
        if name in members:
            raise fail(f"holds two members named {name}")

        header = data[offset : offset + _OWN.size + name_length]
        if len(header) < _OWN.size or header[:4] != b"PK\3\4" or offset > directory:
            raise fail(f"the member {name} is not where the directory says; damaged or truncated")
        own_flags, own_method, own_name_length, own_extra_length = _OWN.unpack_from(header)
        begin = offset + len(header) + own_extra_length
        end = begin + packed
        if (own_flags, own_method, own_name_length) != (flags, method, name_length) or header[_OWN.size :] != raw:
            raise fail(f"the member {name}: its own header contradicts the directory; damaged")
        if end > directory or (method == STORED and packed != size):
            raise fail(f"the member {name} lies outside of the file; damaged or truncated")
        if not flags & _DESCRIPTOR and header[14:26] != listed[entry + 16 : entry + 28]:  # with one they stand behind
            sizes: tuple[int, ...] = int.from_bytes(header[22:26], "little"), int.from_bytes(header[18:22], "little")
            if _WIDE in sizes:
                sizes = _widened(data[begin - own_extra_length : begin], sizes, where)
            if header[14:18] != listed[entry + 16 : entry + 20] or sizes != (size, packed):
                raise fail(f"the member {name}: its own header contradicts the directory; damaged")
        members[name] = Member(offset, begin, end, method, size, checksum)
    if at != stop:
        raise fail("the zip directory is damaged")
    last = 0
    for member in sorted(members.values()):
        if member.header < last:
            raise fail(f"the member {next(name for name in members if members[name] is member)} overlaps another one")
        last = member.end
    return members


def _directory(data: mmap, where: str) -> tuple[int, int, int]:
    """How many entries the directory has, where it begins and where it ends."""
    end = len(data) - _END.size
    while end >= 0 and (end := data.rfind(b"PK\5\6", max(0, len(data) - _END.size - 0xFFFF), end + 4)) >= 0:
        if end + _END.size <= len(data):
            *fields, comment = _END.unpack_from(data, end)
            if end + _END.size + comment == len(data):
                break
        end -= 1
    else:
        raise CheckpointError(
            f"{where}: a zip file without its directory, which is at the end; truncated, fetch it again"
        )
    _, disk, first_disk, here, entries, size, begin = fields
    stop = end
    locator = end - _LOCATOR.size
    if locator >= 0 and data[locator : locator + 4] == b"PK\6\7":
        _, _, stop, _ = _LOCATOR.unpack_from(data, locator)
        if stop > locator - _WIDE_END.size or data[stop : stop + 4] != b"PK\6\6":
            raise CheckpointError(f"{where}: the zip directory is damaged")
        _, length, _, _, disk, first_disk, here, entries, size, begin = _WIDE_END.unpack_from(data, stop)
        if stop + 12 + length != locator:
            raise CheckpointError(f"{where}: the zip directory is damaged")
    if (disk, first_disk) != (0, 0) or here != entries or begin + size != stop:
        raise CheckpointError(f"{where}: the zip directory is not where the file says; damaged, or something was added")
    return entries, begin, stop


def _widened(extra: bytes, numbers: tuple[int, ...], where: str) -> tuple[int, ...]:
    """`numbers` with those that are marked as too wide for 32 bits taken from the extra field, where they stand in
    their order."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = [extra[i : i + 8] for i in range(at + 4, min(at + 4 + length, len(extra)) - 7, 8)]
            if len(wide) >= numbers.count(_WIDE):
                return tuple(int.from_bytes(wide.pop(0), "little") if n == _WIDE else n for n in numbers)
        at += 4 + length
    raise CheckpointError(f"{where}: the zip directory is damaged")


def read_member(data: mmap, member: Member, where: str, name: str) -> bytes:
    """The bytes of a member, unpacked. Raises CheckpointError if they are not as many as the directory says, or their
    checksum is another one. Whoever calls this has counted `size`."""
    content = data[member.begin : member.end]
    if member.method == DEFLATED:
        unpacker: Any = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = unpacker.decompress(content, member.size + 1)
        except zlib.error:
            raise CheckpointError(f"{where}: the member {name} cannot be unpacked; damaged") from None
        if len(content) != member.size or not unpacker.eof:
            raise CheckpointError(
                f"{where}: the member {name} has not the {member.size} bytes that it promises; damaged"
            )
    if member.checksum and zlib.crc32(content) != member.checksum:  # 0: none, which torch.save can be told
        raise CheckpointError(f"{where}: the member {name} has another checksum than the directory; damaged")
    return content
