"""PyTorch and transformers, the oracle, where they are installed and wanted; None elsewhere, so that `-m "not torch"`
runs without them. A test that uses them is marked `torch`, and so is a module if all its tests do.
"""

import os
import warnings

try:
    with warnings.catch_warnings():  # their import-time warnings are not ours to mend
        warnings.simplefilter("ignore")
        import torch
        import transformers
except ImportError:
    torch = transformers = F = None
else:
    from torch.nn import functional as F  # noqa: N812

    if "PYTEST_XDIST_WORKER" not in os.environ:  # whose processors are busy with other workers
        torch.set_num_threads(2)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

__all__ = ["F", "torch", "transformers"]
