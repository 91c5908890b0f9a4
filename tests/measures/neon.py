"""The kernels' inner loops as 64-bit ARM would run them, looked at on any machine.

`python tests/measures/neon.py [KERNEL ...]` compiles kernels (all, or those named, such as multiply_rows) for a
Neoverse N1 and prints their innermost loops that multiply and add, each for the first kernel that has it: how many of
the instructions do that, how many load and store, and how many of those go to the stack, because there were too few
registers. NEON has 32, each a quarter of a vector. `--assembly` prints the loops themselves. Nothing of it is run, so
no ARM processor is needed; whether the bits are right is what `tests/measures/arm64.sh` finds out.
"""

# ruff: noqa: E402  the environment first

import argparse
import os
import platform
import re

os.environ["NUMBA_CPU_NAME"] = "neoverse-n1"
os.environ["NUMBA_CPU_FEATURES"] = ""  # those of the name

from llvmlite import binding

# Before Numba and the kernels ask which machine this is.
binding.get_process_triple = lambda: "aarch64-unknown-linux-gnu"
platform.machine = lambda: "aarch64"
binding.initialize_all_targets()
binding.initialize_all_asmprinters()

from numba.core.caching import NullCache
from numba.core.cpu import CPUContext

import tinymvit.kernels  # noqa: F401  it fills KERNELS
from tinymvit.kernels.runtime.jit import KERNELS, SIGNATURE
from tinymvit.text import align

LABEL = re.compile(r"([.\w$]+):")
BRANCH = re.compile(r"(?:b|b\.\w+|cbn?z|tbn?z)\s+(?:.*\s)?(\.L\w+)")
STACK = re.compile(r"\[(?:sp|x29)\b")


def assembly(kernel):
    """The assembly of a kernel and of all that it calls."""
    kernel._compiler._cache = NullCache()
    kernel._compiler.compile(SIGNATURE)
    return kernel._compiler.overloads[SIGNATURE.args].library.get_asm_str()


def no_executable(context, library, fndesc, env):
    """In place of the callable that Numba makes of compiled code: it could not run here. Each is another object, since
    Numba finds compiled functions by them."""
    library._ensure_finalized()
    return [].append


CPUContext.get_executable = no_executable


def innermost_loops(text):
    """(function, instructions) of each innermost loop with vector multiply-adds.

    A loop reaches from a label to a branch back to it. Of loops that multiply and add in the same places, the shortest
    is taken: the others go through a masked load or store, lane by lane.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if LABEL.match(line) or line[:1].isalpha()]
    places = {found[1]: number for number, line in enumerate(lines) if (found := LABEL.match(line))}
    jumps = [(places.get(found[1], end + 1), end) for end, line in enumerate(lines) if (found := BRANCH.match(line))]
    loops = sorted({(start, end) for start, end in jumps if start < end}, key=lambda loop: loop[1] - loop[0])
    seen = set()
    for start, end in loops:
        adds = [number for number in range(start, end + 1) if is_multiply_add(lines[number])]
        if adds and not seen.intersection(adds):
            body = [line for line in lines[start : end + 1] if not LABEL.match(line)]
            function = next(line for line in reversed(lines[:start]) if line.startswith("_ZN"))
            yield function_name(function), body
        seen.update(adds)


def is_multiply_add(instruction):
    return re.match(r"fml[as]\s+v", instruction) is not None


def function_name(symbol):
    """The last names of a function as Numba mangles them, each after its length: `_ZN8tinymvit7kernels6linear...`"""
    names, rest = [], symbol.removeprefix("_ZN")
    while found := re.match(r"\d+", rest):
        length = int(found[0])
        names.append(rest[found.end() :][:length])
        rest = rest[found.end() + length :]
    readable = {"_3c": "<", "_3e": ">", "_5b": "[", "_5d": "]"}
    return re.sub("|".join(readable), lambda found: readable[found[0]], ".".join(names[2:]))


def counts(body):
    """How many instructions a loop has, and how many of them multiply and add, load, store, and use the stack."""
    found = [line for line in body if STACK.search(line)]
    loads, stores = [sum(line.startswith(word) for line in body) for word in ("ld", "st")]
    return len(body), sum(map(is_multiply_add, body)), loads, stores, len(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="a kernel's name; by default all")
    parser.add_argument("--assembly", action="store_true", help="print the loops themselves")
    options = parser.parse_args()
    names = [kernel.name for kernel in KERNELS]
    if unknown := set(options.kernels) - set(names):
        parser.error(f"KERNEL must be of {', '.join(names)}, not {', '.join(sorted(unknown))}")
    rows = {}  # the first kernel that has a loop stands for all
    for kernel in KERNELS:
        if not options.kernels or kernel.name in options.kernels:
            for function, body in innermost_loops(assembly(kernel)):
                row = (function, *map(str, counts(body)))
                if options.assembly and row not in rows:
                    print(f"{kernel.name}, {function}:", *body, sep="\n    ")
                rows.setdefault(row, kernel.name)
    head = ("kernel", "loop in", "instructions", "multiply-adds", "loads", "stores", "on the stack")
    print("\n".join(align([head, *((name, *row) for row, name in rows.items())], left=(0, 1))))


if __name__ == "__main__":
    main()
