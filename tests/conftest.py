"""Settings that every test shares: seeded Hypothesis without a deadline (the first call of a kernel compiles it)."""

import warnings

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

with warnings.catch_warnings():  # their import-time warnings are not ours to mend
    warnings.simplefilter("ignore")
    import torch
    import transformers

torch.set_num_threads(2)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def haswell(tmp_path_factory):
    """The environment in which Numba compiles for a processor with AVX2 and no AVX-512, into a cache for this run."""
    return {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+avx,+fma,+bmi,+bmi2",
        "NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("haswell")),
    }
