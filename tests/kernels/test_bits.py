"""Every kernel gives the same bits on any number of threads, in any batch, from many Python threads at once and on any
processor; and reads nothing beyond its inputs."""

import platform
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from every_op import every_op, normal, run_python, threads
from oracle import assert_same
from tinymvit import kernels


def test_bits_do_not_depend_on_threads_or_batch():
    x = normal(7, 3, 11, 13, 37)
    results = {}
    for count in range(1, kernels.max_num_threads() + 1):
        with threads(count):
            results[count] = every_op(x)
            alone = every_op(x[1:2])
        for name, result in results[count].items():
            assert_same(result, results[1][name], name=f"{name} on {count} threads")
            assert_same(alone[name], result[1:2], name=f"{name} alone")


DIGESTS = """
import hashlib
if not kernels.is_cached():
    assert len(list(kernels.warm_up())) > 10 and kernels.is_cached()
for name, result in every_op(normal(7, 3, 11, 13, 37)).items():
    print(name, hashlib.sha256(result.tobytes()).hexdigest())
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="compiles for another x86-64 processor")
def test_bits_do_not_depend_on_the_processor(haswell):
    there, here = run_python(DIGESTS, **haswell), run_python(DIGESTS)
    assert len(here.splitlines()) > 15
    assert here == there


@pytest.mark.skipif(sys.platform != "linux", reason="protects memory as Linux does")
def test_nothing_is_read_beyond_the_end_of_an_input():
    program = """
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
def place(array):
    # The array ends where a page begins that must not be touched.
    pages = -(-array.nbytes // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(start + pages * mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
    placed = np.frombuffer(memory, np.float32, array.size, pages * mmap.PAGESIZE - array.nbytes)
    placed = placed.reshape(array.shape)
    placed[...] = array
    return placed
for batch in (1, 2):
    x = normal(7, batch, 11, 13, 37)
    expected = every_op(x)
    for name, result in every_op(x, place).items():
        assert (result == expected[name]).all()
print("done")
"""
    assert run_python(program) == "done\n"


@pytest.mark.parametrize("count", [1, 2])
def test_several_python_threads_may_call_at_once(count):
    if count > kernels.max_num_threads():
        pytest.skip("one processor")
    inputs = [normal(i, 1, 11, 13, 37) for i in range(8)]
    with threads(count):
        expected = [every_op(x) for x in inputs]
        with ThreadPoolExecutor(4) as pool:
            actual = list(pool.map(every_op, inputs))
    for one, other in zip(actual, expected, strict=True):
        for name, result in one.items():
            assert_same(result, other[name], name=name)
