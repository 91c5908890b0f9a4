"""A whole model called from many Python threads at once, and in children that `fork` makes, on each threading layer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinymvit import kernels

pytestmark = pytest.mark.slow  # each test is a process of its own

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"
START = f"""
import multiprocessing
import os
import sys
from concurrent.futures import ThreadPoolExecutor
import numba
import numpy as np
import tinymvit
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
locks = classifier.model._lock, tinymvit.modeling._compiling
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
LAYERS = [(1, "default"), (2, "omp"), (2, "workqueue")]


def run(program, threads, layer):
    if threads > kernels.max_num_threads():
        pytest.skip("one processor")
    end = "" if threads == 1 else "print(numba.threading_layer())\n"
    command = [sys.executable, "-c", START + program + end, str(threads)]
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    if layer == "omp" and "threading layer" in result.stderr:
        pytest.skip("Numba has no OpenMP here")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ("" if threads == 1 else layer)


@pytest.mark.parametrize(("threads", "layer"), LAYERS)
def test_many_python_threads_share_a_model(threads, layer):
    run(MANY_THREADS, threads, layer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(("threads", "layer"), LAYERS)
def test_forked_children_infer(threads, layer):
    run(FORKED_CHILDREN, threads, layer)
