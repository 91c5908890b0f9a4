"""Settings that all tests share: seeded Hypothesis without a deadline (the first call of a kernel compiles it), how
many processes run the tests, the kernels compiled before tests use them, and the quick run.

The quick run is `-m "not torch"`. It needs the core install and the extra `test-quick`: PyTorch cannot be imported in
it at all, so that a test which lacks its mark fails, and tests that are marked `slow` are left out.
"""

import os
import sys
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

from tinymvit import errors

settings.register_profile(
    "tinymvit",
    deadline=None,
    derandomize=True,
    max_examples=40,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("tinymvit")


def is_quick(config):
    return "not torch" in config.getoption("markexpr")


def is_worker(config):
    """Whether this process runs a share of the tests for another one, which started it."""
    return hasattr(config, "workerinput")


def pytest_configure(config):
    if is_quick(config):
        early = {"torch", "transformers"} & sys.modules.keys()
        assert not early, f"{early} imported before the quick run could block it: by a conftest.py?"
        sys.modules.update(dict.fromkeys(("torch", "transformers")))
    if is_worker(config):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # PyTorch and NumPy: the processors are busy with other workers


def pytest_xdist_auto_num_workers(config):
    """Folders are spread over the processors. Who names a file, or a word, waits for few tests, and for no workers."""
    few = config.getoption("keyword") or any(".py" in argument for argument in config.args)
    return 0 if few or config.getoption("collectonly") else min(os.cpu_count() or 1, 8)


@pytest.fixture(autouse=True)
def told_anew():
    """What is told once in a process is told once in each test."""
    errors.tell.cache_clear()


def pytest_sessionstart(session):
    """Workers find the kernels compiled, once, by both processes that compile."""
    if session.config.getoption("numprocesses") and not is_worker(session.config):
        compile_kernels()


def pytest_collection_modifyitems(config, items):
    without_torch = not is_quick(config) and find_spec("torch") is None
    for item in items:
        if "haswell" in item.fixturenames:
            item.add_marker("slow")
        if without_torch and item.get_closest_marker("torch"):
            item.add_marker(pytest.mark.skip(reason="PyTorch is not installed: pip install -e '.[test]'"))
    slow = [item for item in items if item.get_closest_marker("slow")] if is_quick(config) else []
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def haswell(request, tmp_path_factory):
    """The environment in which Numba compiles for a processor with AVX2 and no AVX-512, into a cache for this run."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if is_worker(request.config) else folder
    return {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+avx,+fma,+bmi,+bmi2",
        "NUMBA_CACHE_DIR": str(shared / "haswell"),
    }


@pytest.fixture(autouse=True)
def _no_first_run(request):
    """No command that a test runs is the first run on this machine, which says so. What imports neither the kernels nor
    the command line need not wait for them."""
    if {"tinymvit.cli", "tinymvit.kernels"} & sys.modules.keys():
        request.getfixturevalue("compiled_kernels")


@pytest.fixture(scope="session")
def compiled_kernels():
    """All kernels are compiled."""
    compile_kernels()


def compile_kernels():
    from tinymvit import kernels

    before = kernels.get_num_threads()
    for threads in {1, kernels.max_num_threads()}:
        kernels.set_num_threads(threads)
        list(kernels.warm_up())
    kernels.set_num_threads(before)
