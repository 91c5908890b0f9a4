import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from every_op import normal
from kernel_cases import arrays, sizes
from oracle import assert_same
from tinymvit import kernels


@given(st.data(), st.lists(sizes, max_size=4))
def test_add(data, shape):
    a, b = data.draw(arrays(*shape, 1)), data.draw(arrays(*shape, 1))
    assert_same(kernels.add(a, b), a + b)
    out = np.array(a, order="C")
    assert kernels.add(out, b, out=out) is out
    assert_same(out, a + b)


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_memory_mapped_files(tmp_path, mode):
    a, b = normal(0, 3, 5), normal(1, 3, 5)
    a.tofile(tmp_path / "a")
    mapped = np.memmap(tmp_path / "a", np.float32, mode, shape=(3, 5))
    assert_same(kernels.add(mapped, b), a + b)
    if mode == "r+":
        kernels.add(b, b, out=mapped)
        mapped.flush()
        assert_same(np.fromfile(tmp_path / "a", np.float32), (b + b).ravel())
