"""The engine's bits are those in digests.json: for any threads, alone or in a batch, on AVX2 and on this processor."""

import json
import os
import platform
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tinymvit import kernels

PROGRAM = Path(__file__).parent.parent / "measures" / "digests.py"
KEPT, MODELS, digests = map(runpy.run_path(str(PROGRAM)).get, ("KEPT", "MODELS", "digests"))

EXPECTED = json.loads(KEPT.read_text("utf-8"))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("threads", range(1, kernels.max_num_threads() + 1))
def test_the_bits_do_not_depend_on_threads_or_batch(threads, batch):
    before = kernels.get_num_threads()
    kernels.set_num_threads(threads)
    try:
        assert digests(batch) == EXPECTED
    finally:
        kernels.set_num_threads(before)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="compiles for another x86-64 processor")
def test_the_bits_do_not_depend_on_the_processor(haswell):
    command = [sys.executable, str(PROGRAM)]
    process = subprocess.run(command, env=os.environ | haswell, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == EXPECTED


def test_every_tensor_has_bits_of_its_own():
    assert {name.split()[0] for name in EXPECTED} == set(MODELS)
    assert len(set(EXPECTED.values())) == len(EXPECTED)
