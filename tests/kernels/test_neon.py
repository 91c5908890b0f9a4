"""The inner loops as a 64-bit ARM processor would run them, from tests/measures/neon.py: compiled here, never run."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent / "measures" / "neon.py"


@pytest.mark.slow
def test_the_accumulators_of_the_product_stay_in_registers():
    result = subprocess.run([sys.executable, str(PROGRAM), "multiply_rows"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    (product,) = [row[2:] for row in rows if row[1] == "simd.product.product"]
    instructions, multiply_adds, loads, stores, stack = map(int, product)
    assert multiply_adds == 24  # 6 rows x 16 lanes, 4 lanes in each
    assert instructions <= 1.6 * multiply_adds
    assert loads <= 10
    assert (stores, stack) == (0, 0)
