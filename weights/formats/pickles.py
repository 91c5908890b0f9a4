"""Pickles, read by a machine of our own that executes nothing.

A pickle is a program for a stack machine. Python's runs it whole: it imports what the program names and calls it. This
one knows the opcodes that build plain values, and two that would call: the name of what is called, and the values that
it is given, go to a function of the reader, which decides by an explicit list what, if anything, stands for the result.
Nothing is imported, no attribute of anything is read or set.

No step takes time or memory by what the pickle claims, only by its own bytes: lengths are held against what is left,
and nothing recurses over what was built, which may be as deep as it likes or hold itself. Which names are known, and
what a persistent id is, is left to `pytorch`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from tinymvit.errors import CheckpointError

MEMORY_OF_A_BYTE = (
    128  # bytes that one byte of a pickle can take: an empty list, its place on the stack and in the memo
)
LONGEST_INTEGER = 255  # bytes

_KEYS = frozenset((str, int, float, bool, bytes, type(None)))  # hashed at once; a tuple may be nested without end
_KEY_LIMIT = 2**63  # of any number of larger integers all may have one hash, which makes a dictionary slow


class Global:
    """What a pickle names: a class or a function. It is neither imported nor called.

    make: gives what stands for the result of calling it with a tuple of arguments; None if it may not be called.
    """

    __slots__ = ("make", "name")

    def __init__(self, name: str, make: Callable[[tuple[Any, ...]], Any] | None = None) -> None:
        self.name, self.make = name, make

    def __repr__(self) -> str:
        return self.name


class Inert:
    """What stands for an object that is known to be harmless and of no use here. It holds nothing."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "an object"


INERT = Inert()


def unpickle(
    data: bytes, begin: int, where: str, find: Callable[[str], Global], persistent: Callable[[Any], Any]
) -> tuple[Any, int]:
    """The value of the pickle that begins at a byte of `data`, and where the pickle ends.

    find: gives what stands for a name such as "torch.FloatStorage". persistent: gives what stands for a persistent id.
    Each raises CheckpointError for what it does not know. where: begins the messages. Raises CheckpointError for a
    pickle that is damaged or has an opcode that plain values do not need. It may take `MEMORY_OF_A_BYTE` bytes for each
    of `data`, which whoever calls this has counted.
    """
    stack: list[Any] = []
    below: list[list[Any]] = []  # for each mark the stack that it interrupts
    memo: dict[int, Any] = {}
    end = len(data)
    codes = iter(data)  # half the time of an index that is counted up
    codes.__setstate__(begin)  # type: ignore[attr-defined]
    one = codes.__next__
    four = zip(codes, codes, codes, codes, strict=False).__next__
    left = codes.__length_hint__  # type: ignore[attr-defined]

    def piece(length: int) -> bytes:
        at = end - left()
        if length > end - at:
            raise _PickleError(f"promises {length} bytes where {end - at} are left; damaged or truncated")
        codes.__setstate__(at + length)  # type: ignore[attr-defined]
        return data[at : at + length]

    def number(width: int) -> int:
        return int.from_bytes(piece(width), "little")

    def line() -> str:
        at = end - left()
        stop = data.find(b"\n", at, at + 1000)
        if stop < 0:
            raise _PickleError("has a name without an end; damaged or truncated")
        return piece(stop + 1 - at)[:-1].decode("utf-8")

    try:
        # A chain of comparisons, the most frequent opcodes of a state dict first, and no table of functions: calls
        # would take twice the time of all the rest.
        for code in codes:
            if code == 0x72:  # LONG_BINPUT
                a, b, c, d = four()
                memo[a | b << 8 | c << 16 | d << 24] = stack[-1]
            elif code == 0x68:  # BINGET
                stack.append(memo[one()])
            elif code == 0x4B:  # BININT1
                stack.append(one())
            elif code == 0x28:  # MARK
                below.append(stack)
                stack = []
            elif code == 0x74:  # TUPLE
                made = tuple(stack)
                stack = below.pop()
                stack.append(made)
            elif code == 0x58:  # BINUNICODE
                a, b, c, d = four()
                stack.append(piece(a | b << 8 | c << 16 | d << 24).decode("utf-8", "surrogatepass"))
            elif code == 0x52 or code == 0x81:  # REDUCE, NEWOBJ
                arguments = stack.pop()
                called = stack[-1]
                if type(called) is not Global or called.make is None or type(arguments) is not tuple:
                    raise _PickleError(f"calls {_kind(called)}")
                stack[-1] = called.make(arguments)
            elif code == 0x85:  # TUPLE1
                stack[-1] = (stack[-1],)
            elif code == 0x29:  # EMPTY_TUPLE
                stack.append(())
            elif code == 0x51:  # BINPERSID
                stack[-1] = persistent(stack[-1])
            elif code == 0x89:  # NEWFALSE
                stack.append(False)
            elif code == 0x71:  # BINPUT
                memo[one()] = stack[-1]
            elif code == 0x86:  # TUPLE2
                second = stack.pop()
                stack[-1] = (stack[-1], second)
            elif code == 0x4D:  # BININT2
                stack.append(one() | one() << 8)
            elif code == 0x94:  # MEMOIZE
                memo[len(memo)] = stack[-1]
            elif code == 0x6A:  # LONG_BINGET
                stack.append(memo[number(4)])
            elif code == 0x8C:  # SHORT_BINUNICODE
                stack.append(piece(one()).decode("utf-8", "surrogatepass"))
            elif code == 0x87:  # TUPLE3
                third, second = stack.pop(), stack.pop()
                stack[-1] = (stack[-1], second, third)
            elif code == 0x4A:  # BININT
                stack.append(int.from_bytes(piece(4), "little", signed=True))
            elif code == 0x47:  # BINFLOAT
                stack.append(struct.unpack(">d", piece(8))[0])
            elif code == 0x4E:  # NONE
                stack.append(None)
            elif code == 0x88:  # NEWTRUE
                stack.append(True)
            elif code == 0x7D:  # EMPTY_DICT
                stack.append({})
            elif code == 0x5D:  # EMPTY_LIST
                stack.append([])
            elif code == 0x75:  # SETITEMS
                items, stack = stack, below.pop()
                put(stack[-1], items)
            elif code == 0x73:  # SETITEM
                value, key = stack.pop(), stack.pop()
                put(stack[-1], [key, value])
            elif code == 0x65:  # APPENDS
                items, stack = stack, below.pop()
                _append(stack[-1], items)
            elif code == 0x61:  # APPEND
                value = stack.pop()
                _append(stack[-1], [value])
            elif code == 0x63:  # GLOBAL
                module = line()
                stack.append(find(f"{module}.{line()}"))
            elif code == 0x93:  # STACK_GLOBAL
                name, module = stack.pop(), stack.pop()
                if type(name) is not str or type(module) is not str:
                    raise _PickleError(f"names {_kind(module)} and {_kind(name)}, expected a module and what is in it")
                stack.append(find(f"{module}.{name}"))
            elif code == 0x62:  # BUILD: sets attributes, such as the versions that a state dict carries as _metadata
                stack.pop()
                if type(stack[-1]) is not dict and stack[-1] is not INERT:
                    raise _PickleError(f"sets attributes of {_kind(stack[-1])}")
            elif code == 0x2E:  # STOP
                return stack.pop(), end - left()
            elif code == 0x95:  # FRAME: a hint for buffered reading
                piece(8)
            elif code == 0x80:  # PROTO
                protocol = one()
                if protocol > 5:
                    raise _PickleError(f"is of protocol {protocol}, expected at most 5; damaged")
            elif code == 0x8A or code == 0x8B:  # LONG1, LONG4
                length = one() if code == 0x8A else number(4)
                if length > LONGEST_INTEGER:
                    raise _PickleError(f"has an integer of {length} bytes, expected at most {LONGEST_INTEGER}")
                stack.append(int.from_bytes(piece(length), "little", signed=True))
            elif code == 0x55:  # SHORT_BINSTRING, text of Python 2
                stack.append(piece(one()).decode("latin-1"))
            elif code == 0x54:  # BINSTRING
                stack.append(piece(number(4)).decode("latin-1"))
            elif code == 0x43:  # SHORT_BINBYTES
                stack.append(piece(one()))
            elif code == 0x42:  # BINBYTES
                stack.append(piece(number(4)))
            elif code == 0x8D:  # BINUNICODE8
                stack.append(piece(number(8)).decode("utf-8", "surrogatepass"))
            elif code == 0x8E or code == 0x96:  # BINBYTES8, BYTEARRAY8
                stack.append(piece(number(8)))
            elif code == 0x8F:  # EMPTY_SET
                stack.append(INERT)
            elif code == 0x90:  # ADDITEMS
                stack = below.pop()
                if stack[-1] is not INERT:
                    raise _PickleError(f"adds to {_kind(stack[-1])}")
            elif code == 0x91:  # FROZENSET
                stack = below.pop()
                stack.append(INERT)
            elif code == 0x6C:  # LIST
                items, stack = stack, below.pop()
                stack.append(items)
            elif code == 0x64:  # DICT
                items, stack = stack, below.pop()
                stack.append({})
                put(stack[-1], items)
            elif code == 0x92:  # NEWOBJ_EX
                keywords, arguments, called = stack.pop(), stack.pop(), stack.pop()
                if type(called) is not Global or called.make is None or type(arguments) is not tuple or keywords != {}:
                    raise _PickleError(f"calls {_kind(called)} by keywords")
                stack.append(called.make(arguments))
            elif code == 0x32:  # DUP
                stack.append(stack[-1])
            elif code == 0x30:  # POP
                if stack:
                    stack.pop()
                else:
                    stack = below.pop()
            elif code == 0x31:  # POP_MARK
                stack = below.pop()
            else:
                raise _PickleError(
                    f"has the opcode {code:#04x}, which no state dict needs; damaged, or no file of PyTorch"
                )
        problem = f"has no end within {end - begin} bytes; damaged or truncated"
    except CheckpointError:
        raise
    except _PickleError as found:
        problem = str(found)
    except (IndexError, KeyError, StopIteration, UnicodeDecodeError):
        problem = "is damaged or truncated"
    raise CheckpointError(f"{where}: the pickle {problem} (byte {end - left() - begin})")


class _PickleError(Exception):
    """What is wrong with a pickle, without the place."""


def put(target: Any, pairs: list[Any]) -> None:
    """Set items of a dictionary: a list of keys and values in turn. For what `unpickle` calls, which says where."""
    if target is INERT:
        return
    if type(target) is not dict or len(pairs) % 2:
        raise _PickleError(f"sets items of {_kind(target)}")
    keys = pairs[::2]
    for key in keys:
        if type(key) not in _KEYS:
            raise _PickleError(f"has {_kind(key)} as a key, expected text or a number")
        if type(key) is int and not -_KEY_LIMIT <= key < _KEY_LIMIT:
            raise _PickleError("has an integer of more than 64 bits as a key")
    before = len(target)
    target.update(zip(keys, pairs[1::2], strict=True))
    if len(target) != before + len(keys):
        raise _PickleError("sets a key of a dictionary twice")


def _append(target: Any, items: list[Any]) -> None:
    if type(target) is list:
        target.extend(items)
    elif target is not INERT:
        raise _PickleError(f"appends to {_kind(target)}")


def _kind(value: Any) -> str:
    """What a value is, in words, whatever it holds."""
    return value.name if type(value) is Global else f"a {type(value).__name__.lower().lstrip('_')}"
