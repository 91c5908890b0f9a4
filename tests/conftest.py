"""Settings that every test shares: seeded Hypothesis without a deadline (the first call of a kernel compiles it)."""

import warnings

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
