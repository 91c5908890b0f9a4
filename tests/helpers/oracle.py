"""The one way tests compare arrays: shape, then dtype, then values, then the first and the worst mismatch by index."""

import numpy as np
from PIL import Image

# Largest error relative to the largest expected magnitude, one a tier. Measured headroom is noted beside each.
KERNEL_FLOAT32 = 2e-6  # one op in float32 against float64; sums of up to 2,000 products
MODEL_FLOAT32 = 2e-5  # a whole network; PyTorch's own float32 is within 3e-6
REFERENCE_FLOAT64 = 1e-12  # the NumPy reference against PyTorch, both float64


def assert_same(actual, expected, tolerance=0.0, name="array", dtype=None):
    """Assert that `actual` has the shape, dtype and values of `expected`.

    `tolerance` bounds the absolute error divided by the largest magnitude in `expected`; 0 means equal bits (NaN
    equals NaN). `dtype` is what `actual` must have; by default `expected`'s when the tolerance is 0, else any float.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{name}: shape {actual.shape}, expected {expected.shape}"
    if dtype is None and tolerance == 0.0:
        dtype = expected.dtype
    if dtype is not None:
        assert actual.dtype == dtype, f"{name}: dtype {actual.dtype}, expected {np.dtype(dtype)}"
    if expected.size == 0:
        return
    wrong_nan = np.isnan(actual) != np.isnan(expected)
    finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
    scale = float(finite.max()) if finite.size else 1.0
    with np.errstate(invalid="ignore"):
        error = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    error = np.where((actual == expected) | (np.isnan(actual) & np.isnan(expected)), 0.0, error)
    bad = wrong_nan | (error > tolerance * (scale or 1.0))
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        worst = tuple(int(i) for i in np.unravel_index(np.nanargmax(np.where(bad, error, -1.0)), error.shape))
        relative = error[worst] / (scale or 1.0)
        raise AssertionError(
            f"{name}: {int(bad.sum())} of {bad.size} values differ (tolerance {tolerance:g} of {scale:g}); "
            f"first at {first}: {actual[first]!r}, expected {expected[first]!r}; "
            f"worst at {worst}: {actual[worst]!r}, expected {expected[worst]!r}, relative error {relative:.2e}"
        )


def opened(path):
    """The picture in a file, read whole, the file closed again."""
    with Image.open(path) as picture:
        picture.load()
    return picture
