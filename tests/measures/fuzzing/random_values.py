"""Names, numbers, JSON, bytes and arrays that are nearly right, each out of a `random.Random`."""

import json

import numpy as np

TEXTS = (
    "\x1b[31m", "\x1b]0;x\x07", "\n", "a\nb", "\r", "\t", "\x00", "\x7f", "\x9b1m", "\u202e", "\u200b", "\u2028", "é",
    "日本", "\udcff", "\ud800", "'", '"', "\\", "%s", "{0}", "{", "..", "../x", "a//b", ".", " ", "", "-", "--help",
    "~", "~nobody-here", "*", "?", "[", "[!", "nan", "None", "null", "a" * 300, "b" * 5000, "x\x1b" * 2000, "a/b",
    "__class__", "__metadata__", "\N{PILE OF POO}", "\u017f", "\u0130", "\U0001d7d9", "²", "1_0", "0x10", " 1", "1e3",
)  # fmt: skip
INTEGERS = (
    0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 63, 64, 255, 256, 999, 1000, 65535, 65536, 10**6, 10**6 + 1, 2**31 - 1,
    2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, 10**400, -(2**31), -(2**63),
)  # fmt: skip
FLOATS = (
    0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.0, 1e-3, 1e-45, 5e-324, 1e-12, 1e10, 1e38, 3.5e38, 1e300, float("inf"),
    float("-inf"), float("nan"), 255.0, 1 / 255,
)  # fmt: skip


def text(rng):
    """Text with something in it that a terminal, a path or a parser may take amiss."""
    if rng.random() < 0.3:
        return rng.choice(("a", "logits", "digits", "weight")) + rng.choice(TEXTS) + rng.choice(("", "b", ".png"))
    return rng.choice(TEXTS)


def integer(rng):
    return rng.choice(INTEGERS) if rng.random() < 0.7 else rng.randint(-5, 70)


def number(rng):
    return rng.choice(FLOATS) if rng.random() < 0.5 else integer(rng)


def scalar(rng):
    """What a caller may give for any setting: of the right kind or of another."""
    return rng.choice((None, True, False, integer(rng), number(rng), text(rng), text(rng)))


def own(name):
    """The name, unless it is that of a folder above a case's own: whoever reads these reads what is no case's."""
    return "." if name.strip() in ("..", "/", "//") else name


def file_name(rng, suffix=""):
    """A name that a file can have: no slash, no null character, not too long; bytes that are no text among them."""
    name = (text(rng).replace("/", "_").replace("\x00", "0").replace("\ud800", "") or "empty")[:40] + suffix
    return name if name.strip(".") else f"dots{name}"


# ---- JSON ----


class Pairs(list):
    """A JSON object as a list of (name, value): names may stand twice."""


class Raw(str):
    """A token that is written as it is, right or not."""


RAW = tuple(map(Raw, (
    "NaN", "Infinity", "-Infinity", "1e999", "-0", "-0.0", "1E5", "1.", ".5", "01", "+1", "0x1", "truE", "nul", "'a'",
    '"\\ud800"', '"\\u0000"', '"\\x"', '"a', "{,}", "[1,]", "// c", "9" * 5000, "1" + "0" * 400, "1." + "3" * 400,
    "[" * 3000 + "]" * 3000, "[" * 200000, '{"a":' * 3000 + "1" + "}" * 3000, "", "\x00", "\ufeff", "1e-400",
)))  # fmt: skip


def pairs(value):
    """Plain JSON as one whose objects are `Pairs`."""
    if isinstance(value, dict):
        return Pairs((name, pairs(item)) for name, item in value.items())
    return [pairs(item) for item in value] if isinstance(value, (list, tuple)) else value


def written(value):
    """The text of JSON, `Pairs` and `Raw` included."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{written(name)}:{written(item)}" for name, item in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    try:
        return json.dumps(value)
    except ValueError:  # an integer of too many digits for Python's own conversion
        return "1" + "0" * 400


def json_value(rng, depth=2):
    """Any JSON."""
    kind = rng.randrange(9 if depth else 6)
    if kind < 4:
        return scalar(rng)
    if kind < 6:
        return rng.choice(RAW)
    if kind == 6:
        return Pairs((text(rng), json_value(rng, depth - 1)) for _ in range(rng.randrange(4)))
    return [json_value(rng, depth - 1) for _ in range(rng.randrange(5))]


def mutated_json(rng, value, changes=None):
    """`value`, of `Pairs` and lists, changed in place at a few random places; returns it or what replaces it."""
    for _ in range(changes or rng.choice((1, 1, 1, 2, 3))):
        holders = [node for node in _nodes(value) if isinstance(node, list) and node]
        if not holders or rng.random() < 0.03:
            value = json_value(rng)
            continue
        _mutate_in(rng, rng.choice(holders))
    return value


def _nodes(value):
    yield value
    for item in value if isinstance(value, list) else ():
        yield from _nodes(item[1] if isinstance(value, Pairs) else item)


def _mutate_in(rng, holder):
    """Change one item of an object or a list."""
    at, action = rng.randrange(len(holder)), rng.randrange(10)
    named = isinstance(holder, Pairs)
    name, item = holder[at] if named else ("", holder[at])
    if action == 0:
        del holder[at]
        return
    if action == 1:  # twice, perhaps with another value
        holder.append((name, rng.choice((item, json_value(rng)))) if named else item)
        return
    if action == 2:  # what nobody knows
        holder.insert(at, (text(rng), json_value(rng)) if named else json_value(rng))
        return
    if action == 3 and named:
        name = rng.choice((text(rng), name.upper(), f"{name} ", name[:-1]))
    elif action == 4:
        item = rng.choice(([item], Pairs([(text(rng), item)]), [item] * rng.choice((0, 2, 9))))
    elif action == 5 and isinstance(item, (int, float)) and not isinstance(item, bool):
        item = rng.choice(
            (number(rng), str(item), float(item) if abs(item) < 1e300 else item, item + 1, -item, bool(item))
        )
    elif action == 6:
        item = rng.choice(RAW)
    else:
        item = json_value(rng)
    holder[at] = (name, item) if named else item


# ---- bytes ----


def mutated_bytes(rng, data, changes=None):
    """Flipped bits, written bytes, pieces cut out, doubled or put in, ends cut off and added."""
    data = bytearray(data)
    for _ in range(changes or rng.choice((1, 1, 2, 4, 16))):
        at, action = rng.randrange(len(data) + 1), rng.randrange(9)
        length = min(rng.choice((1, 2, 4, 8, 64)), len(data) - at)
        if action < 3 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif action == 3:
            data[at : at + length] = rng.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * length
        elif action == 4:
            data[at : at + length] = rng.randbytes(length)
        elif action == 5:
            del data[at : at + length]
        elif action == 6:
            data[at:at] = data[at : at + length]
        elif action == 7:
            del data[at:]
        else:
            data += rng.choice((b"\x00", b"\n", rng.randbytes(9), bytes(data[:64])))
    return bytes(data)


# ---- arrays ----

DTYPES = ("f4", "f8", "f2", ">f4", "u1", "i1", "i4", "i8", "u8", "u2", "?", "c8", "O", "U3", "S3", "M8[s]", "V4")
SIDES = (0, 1, 2, 3, 4, 5, 9, 32, 33)


def shape(rng, near=None):
    """Lengths of axes: those of `near` with a change, or any."""
    if near is not None and rng.random() < 0.8:
        sides = list(near)
        for _ in range(rng.choice((0, 1, 1, 2))):
            at = rng.randrange(len(sides) + 1)
            action = rng.randrange(3)
            if action == 0:
                sides.insert(at, rng.choice((0, 1, 2)))
            elif action == 1 and at < len(sides):
                sides[at] = rng.choice(SIDES)
            elif sides:
                sides.pop(at - 1)
        return tuple(sides)
    return tuple(rng.choice(SIDES) for _ in range(rng.randrange(6)))


def array(rng, near=None, dtype="f4", low=0.0, high=1.0):
    """An array whose shape, dtype, place in memory, values and class are those wanted, but for a few."""
    sides = shape(rng, near) if rng.random() < 0.5 else tuple(near or (2, 3))
    while np.prod(sides, dtype=float) > 20000:
        sides = sides[1:]
    kind = np.dtype(rng.choice(DTYPES) if rng.random() < 0.35 else dtype)
    numbers = np.random.default_rng(rng.getrandbits(32))
    values = np.asarray(numbers.uniform(low, high, sides))
    with np.errstate(all="ignore"):
        if kind.kind == "V":
            result = np.zeros(sides, kind)
        elif kind.kind == "M":
            result = values.astype("i8").astype(kind)
        elif kind.kind in "iub" and high <= 1:
            result = np.asarray(values * 200).astype(kind) if kind.kind != "b" else np.asarray(values > 0.5)
        else:
            result = values.astype(kind)
        if result.size and rng.random() < 0.25 and kind.kind in "fiucO":
            extremes = FLOATS if kind.kind in "fcO" else (np.iinfo(kind).min, np.iinfo(kind).max, 0, 100)
            at = rng.randrange(result.size)
            result.reshape(-1)[at : at + rng.choice((1, 3, 10**6))] = rng.choice(extremes)
    return placed(rng, result)


def placed(rng, values):
    """The same values, perhaps otherwise in memory, in a subclass, as a list, or as one that is ragged."""
    way = rng.randrange(24)
    if way == 0 and values.ndim:
        return np.repeat(values, 2, axis=-1)[..., ::2]
    if way == 1:
        return values[::-1] if values.ndim else values
    if way == 2:
        return np.asfortranarray(values)
    if way == 3 and values.dtype.kind in "fiu":
        return np.frombuffer(b"?" + values.tobytes(), values.dtype, offset=1).reshape(values.shape)
    if way == 4:
        values.flags.writeable = False
        return values
    if way == 5:
        return np.broadcast_to(values, (2, *values.shape))
    if way == 6 and values.dtype.kind != "V":
        return np.ma.masked_array(values, mask=np.random.default_rng(0).random(values.shape) < rng.choice((0, 0.3)))
    if way == 7 and values.ndim == 2:
        return np.matrix(values)
    if way == 8:
        return values.tolist()
    if way == 9 and values.ndim and len(values):
        ragged = values.tolist()
        ragged[-1] = ragged[-1][:-1] if isinstance(ragged[-1], list) else [ragged[-1]]
        return ragged
    if way == 10:
        return rng.choice((None, scalar(rng), values.tobytes(), {"a": values}, [values], (values,), object(), {1, 2}))
    return values
