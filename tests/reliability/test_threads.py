"""Whole models called from many Python threads at once, while others set their threads, from asyncio, and in processes
that `fork`, `spawn` and `forkserver` make, on each threading layer that Numba has."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinymvit import kernels

pytestmark = pytest.mark.slow  # each test is a process of its own

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"
MINUTES = 5  # a test that takes longer has met a deadlock
START = f"""
import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
import numba
import numpy as np
import tinymvit
from numba.core.caching import NullCache
from tinymvit.kernels.runtime import jit

def _copy_first(arrays, sizes, first, last):
    arrays[4][0] = arrays[0][0]

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
IMAGES = {str(IMAGES)!r}
tinymvit.set_num_threads(int(sys.argv[1]))
classifier = tinymvit.ImageClassificationPipeline("digits")
images = [f"{IMAGES}/digit-{{digit}}.png" for digit in (2, 3, 5, 7)] * 4
labels = ["2", "3", "5", "7"] * 4
"""
MANY_THREADS = """
with ThreadPoolExecutor(4) as pool:  # the first calls meet while they compile the engine
    together = list(pool.map(classifier, images))
assert together == [classifier(image) for image in images]
assert [each[0]["label"] for each in together] == labels
"""
FORKED_CHILDREN = """
expected = classifier(images)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(classifier, images) == expected  # a copy of the model, sent there
locks = classifier.model._lock, tinymvit.modeling.models._compiling
for lock in locks:
    lock.acquire()  # as a thread that is building an engine does; the child has no such thread
child = os.fork()
if child == 0:
    right = False
    try:
        right = classifier(images) == expected and tinymvit.get_num_threads() == 1  # the very model of the parent
        classifier.model(np.zeros((1, 3, 32, 32), np.float32))  # another engine
        with ThreadPoolExecutor(2) as threads:
            right = right and list(threads.map(classifier, images)) == expected
    finally:
        os._exit(0 if right else 1)
assert os.waitpid(child, 0)[1] == 0
for lock in locks:
    lock.release()
assert classifier(images) == expected
"""
SEVERAL_MODELS = """
segmenter = tinymvit.ImageSegmentationPipeline("digits-seg")
others = [tinymvit.ImageClassificationPipeline("digits") for _ in range(3)]
expected = classifier(images[:4])
mask = segmenter(f"{IMAGES}/scene-1.png").mask
done = threading.Event()

def set_threads():
    while not done.is_set():
        for count in range(1, tinymvit.kernels.max_num_threads() + 1):
            tinymvit.set_num_threads(count)

def work(number):
    if number % 4 == 3:
        return (segmenter(f"{IMAGES}/scene-1.png").mask == mask).all()
    size = 32 + 8 * (number % 8)  # more sizes than engines are kept
    others[number % 3].model(np.zeros((2, 3, size, size), np.float32))
    return others[number % 3](images[:4]) == expected

if int(sys.argv[1]) > 1:
    setter = threading.Thread(target=set_threads)
    setter.start()
try:
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(32)))
finally:
    done.set()
"""
ASYNCIO = """
async def main():
    return await asyncio.gather(*[asyncio.to_thread(classifier, image) for image in images])

assert [each[0]["label"] for each in asyncio.run(main())] == labels
"""
FORKS_MEANWHILE = """
expected = classifier(images[:4])
done = threading.Event()

def infer():
    while not done.is_set():
        assert classifier(images[:4]) == expected

def compile():
    number = 0
    while not done.is_set():
        kernel = jit.Kernel(_copy_first, jit.SIGNATURE)
        kernel._compiler._cache = NullCache()
        kernel.address

threads = [threading.Thread(target=infer) for _ in range(3)] + [threading.Thread(target=compile)]
for thread in threads:
    thread.start()
try:
    for number in range(5):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            right = False
            try:
                right = classifier(images[:4]) == expected
                size = 32 + 8 * number
                classifier.model(np.zeros((1, 3, size, size), np.float32))
                kernel = jit.Kernel(_copy_first, jit.SIGNATURE)
                kernel._compiler._cache = NullCache()
                kernel.address
            finally:
                os._exit(0 if right else 1)
        assert os.waitpid(child, 0)[1] == 0
finally:
    done.set()
"""
INTERRUPTED = """
big = np.zeros((2, 3, 320, 320), np.float32)
expected = classifier.model(big).logits
interrupted = 0
for number in range(10):
    signal.setitimer(signal.ITIMER_REAL, 0.005 + 0.01 * number)
    try:
        classifier.model(big)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
    assert (classifier.model(big).logits == expected).all()
assert interrupted, "no signal came in time"
"""
POOLS = """
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
import tinymvit

def classify(image):
    global classifier
    if "classifier" not in globals():
        classifier = tinymvit.ImageClassificationPipeline("digits")
    return classifier(image)

if __name__ == "__main__":
    images = sys.argv[2:]
    expected = [classify(image) for image in images]
    with ProcessPoolExecutor(2, multiprocessing.get_context(sys.argv[1])) as pool:
        assert list(pool.map(classify, images, timeout=250)) == expected
        assert list(pool.map(tinymvit.ImageClassificationPipeline("digits"), images, timeout=250)) == expected
    print("right")
"""
LAYERS = [(1, "default"), (2, "omp"), (2, "workqueue"), (2, "tbb")]


def run(program, threads, layer):
    if threads > kernels.max_num_threads():
        pytest.skip("one processor")
    end = "" if threads == 1 else "print(numba.threading_layer())\n"
    command = [sys.executable, "-c", START + program + end, str(threads)]
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 * MINUTES)
    if layer in ("omp", "tbb") and "cannot be loaded" in result.stderr:
        pytest.skip(f"Numba has no {layer} here")
    assert result.returncode == 0, result.stderr
    said = result.stdout.splitlines()
    if layer == "tbb":  # Numba says at a fork that it cannot stop TBB's threads, which a child needs not
        said = [line for line in said if line and "before fork()" not in line]
    assert said == ([] if threads == 1 else [layer])


@pytest.mark.parametrize(("threads", "layer"), LAYERS)
def test_eight_python_threads_on_several_models_while_the_number_of_threads_changes(threads, layer):
    run(SEVERAL_MODELS, threads, layer)


@pytest.mark.parametrize(("threads", "layer"), LAYERS)
def test_asyncio(threads, layer):
    run(ASYNCIO, threads, layer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(("threads", "layer"), LAYERS)
def test_forks_while_other_threads_infer_and_compile(threads, layer):
    run(FORKS_MEANWHILE, threads, layer)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers of this kind on this system")
@pytest.mark.parametrize(("threads", "layer"), LAYERS)
def test_a_model_after_interrupts_while_it_ran(threads, layer):
    run(INTERRUPTED, threads, layer)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_process_pools(tmp_path, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    (tmp_path / "pools.py").write_text(POOLS)
    images = [IMAGES / f"digit-{digit}.png" for digit in (2, 3, 5, 7)]
    command = [sys.executable, str(tmp_path / "pools.py"), method, *map(str, images)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60 * MINUTES)
    assert (result.stdout, result.returncode) == ("right\n", 0), result.stderr


def test_a_threading_layer_that_is_not_there():
    program = "import tinymvit; tinymvit.set_num_threads(2); tinymvit.classify(sys.argv[1])"
    if kernels.max_num_threads() == 1:
        pytest.skip("one processor")
    command = [sys.executable, "-c", f"import sys; {program}", str(IMAGES / "digit-7.png")]
    environment = os.environ | {"NUMBA_THREADING_LAYER": "none"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == (
        "ValueError: the threading layer 'none' that Numba is to use cannot be loaded; "
        "expected NUMBA_THREADING_LAYER unset, or one thread"
    )


@pytest.mark.parametrize(("threads", "layer"), LAYERS)
def test_many_python_threads_share_a_model(threads, layer):
    run(MANY_THREADS, threads, layer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(("threads", "layer"), LAYERS)
def test_forked_children_infer(threads, layer):
    run(FORKED_CHILDREN, threads, layer)
