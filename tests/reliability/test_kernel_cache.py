"""The cache of compiled kernels, damaged, full, locked or shared: the right answer, and never a crash."""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import numpy as np
import pytest

from every_op import run_python
from tinymvit.kernels.runtime import cache, jit, warm_up


def _negate_first(arrays, sizes, first, last):
    arrays[4][0] = -arrays[0][0]


def _copy_first(arrays, sizes, first, last):
    arrays[4][0] = arrays[0][0]


def run(function):
    """The kernel of this function, after it has computed the right thing."""
    kernel = jit.Kernel(function, jit.SIGNATURE)
    out = np.zeros(1, np.float32)
    kernel.run((np.float32([7]), jit.EMPTY, jit.EMPTY, jit.EMPTY, out, jit.EMPTY), np.zeros(0, np.int64), 0, 1)
    assert out[0] == (7 if function is _copy_first else -7)
    return kernel


def flip(content, choose):
    place, bit = choose.randrange(len(content)), choose.randrange(8)
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


DAMAGE = {
    "nothing": lambda content, _: b"",
    "cut short": lambda content, choose: content[: choose.randrange(len(content))],
    "other bytes": lambda content, choose: choose.randbytes(len(content)),
    "a bit": flip,
    "longer": lambda content, _: content + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_compiled_again(monkeypatch, tmp_path, damage):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    file = run(_copy_first).file
    whole = file.read_bytes()
    loaded = []
    monkeypatch.setattr(cache.pickle, "loads", lambda content: loaded.append(content) or 1 / 0)
    for seed in range(20 if damage == "a bit" else 1):
        file.write_bytes(DAMAGE[damage](whole, random.Random(seed)))
        kernel = jit.Kernel(_copy_first, jit.SIGNATURE)
        assert kernel._cache.load_overload(jit.SIGNATURE, kernel._compiler.targetctx) is None
    assert not loaded
    run(_copy_first)
    assert cache._checksum(file, file.read_bytes()[16:]) == file.read_bytes()[:16].decode()


def test_another_kernel_s_file_is_not_run(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    run(_negate_first).file.replace(run(_copy_first).file)
    run(_copy_first)


def test_a_folder_in_the_place_of_a_file(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    file = run(_copy_first).file
    file.unlink()
    (file / "in the way").mkdir(parents=True)
    assert not jit.Kernel(_copy_first, jit.SIGNATURE).is_ready()
    run(_copy_first)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.fixture
def nobody():
    """This process has no rights but a common user's."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no permissions of this kind on this system")
@pytest.mark.parametrize("locked", ["file", "folder", "above"])
def test_a_cache_that_may_not_be_read(monkeypatch, nobody, locked):
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(numba.config, "CACHE_DIR", folder)
        file = run(_copy_first).file
        path = {"file": file, "folder": file.parent, "above": Path(folder)}[locked]
        path.chmod(0)
        cache._is_writable.cache_clear()
        try:
            run(_copy_first)
        finally:
            path.chmod(0o700)
            cache._is_writable.cache_clear()


def test_a_cache_that_is_a_file(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    run(_copy_first)


def test_a_folder_that_vanishes(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    kernel = jit.Kernel(_copy_first, jit.SIGNATURE)
    kernel.file.parent.rmdir()
    run(_copy_first)
    assert not kernel.file.exists()


def test_what_killed_processes_left_is_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    file = run(_copy_first).file
    names = [f"add.made.of.{process}.0123abcd.tmp" for process in (7, 77)]
    for name in names:
        (file.parent / name).write_bytes(b"half")
    cache.remove_temporaries(file.parent, 7)
    assert sorted(path.name for path in file.parent.iterdir()) == sorted([names[1], file.name])
    run(_negate_first)
    assert (file.parent / names[1]).exists(), "another process may be writing it"
    yesterday = time.time() - 24 * 3600
    os.utime(file.parent / names[1], (yesterday, yesterday))
    file.unlink()
    run(_copy_first)
    assert not (file.parent / names[1]).exists()


def test_the_second_process_leaves_nothing(monkeypatch, tmp_path):
    """It is killed when the first one is ready, perhaps while it writes."""
    removed = []
    monkeypatch.setattr(warm_up, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(warm_up, "max_num_threads", lambda: 2)
    monkeypatch.setattr(warm_up, "remove_temporaries", lambda *arguments: removed.append(arguments))
    with warm_up._second_process():
        assert not removed
    ((folder, process),) = removed
    assert folder == tmp_path
    with pytest.raises(ChildProcessError):
        os.waitpid(process, 0)


ADD = """
kernels.set_num_threads(1)
x = np.arange(100, dtype=np.float32)
assert (kernels.add(x, x) == 2 * x).all()
print("right")
"""


@pytest.mark.slow
def test_eight_processes_compile_into_one_empty_cache(tmp_path):
    program = f"import numpy as np\nfrom tinymvit import kernels{ADD}"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([sys.executable, "-c", program], env=environment, **pipes) for _ in range(8)]
    ends = [(*process.communicate(timeout=300), process.returncode) for process in running]
    assert ends == [("right\n", "", 0)] * 8
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".pickle"}
    assert run_python(ADD, NUMBA_CACHE_DIR=str(tmp_path)) == "right\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux does")
@pytest.mark.parametrize("option", ["size=4k", "ro"])
def test_a_cache_on_a_disk_that_is_full_or_read_only(tmp_path, option):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        assert run_python(ADD, NUMBA_CACHE_DIR=str(tmp_path)) == "right\n"
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    finally:
        subprocess.run(["umount", tmp_path], check=True)
