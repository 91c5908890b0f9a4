"""Settings that every test shares: seeded Hypothesis without a deadline (the first call of a kernel compiles it), and
the mark `torch` of those that need the oracle. With `-m "not torch"` PyTorch cannot be imported at all, so that a test
which lacks the mark fails.
"""

import sys

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "tinymvit",
    deadline=None,
    derandomize=True,
    max_examples=40,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("tinymvit")


def pytest_configure(config):
    config.addinivalue_line("markers", "torch: needs PyTorch and transformers, the oracle")
    if config.getoption("markexpr") == "not torch":
        sys.modules.update(dict.fromkeys(("torch", "transformers")))


@pytest.fixture(scope="session")
def haswell(tmp_path_factory):
    """The environment in which Numba compiles for a processor with AVX2 and no AVX-512, into a cache for this run."""
    return {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+avx,+fma,+bmi,+bmi2",
        "NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("haswell")),
    }


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels():
    """So that no test is the first run, which says so."""
    from tinymvit import kernels

    before = kernels.get_num_threads()
    for threads in {1, kernels.max_num_threads()}:
        kernels.set_num_threads(threads)
        list(kernels.warm_up())
    kernels.set_num_threads(before)
