"""What runs the kernels: threads, forks, the second process that compiles, the cache and where it may lie."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import numpy as np
import pytest
from llvmlite import binding

from every_op import normal, run_python, threads
from tinymvit import kernels
from tinymvit.kernels.runtime import cache, jit
from tinymvit.kernels.runtime.program import Program, Step


def test_thread_count():
    with threads(1):
        assert kernels.get_num_threads() == 1
    most = kernels.max_num_threads()
    assert 1 <= kernels.get_num_threads() <= most
    for wrong in (0, -1, most + 1):
        with pytest.raises(ValueError, match=rf"^threads must be from 1 to {most} \(.*\), not {wrong}$"):
            kernels.set_num_threads(wrong)
    for wrong in (1.5, "2", True, None):
        with pytest.raises(TypeError, match=r"^threads must be an integer, not "):
            kernels.set_num_threads(wrong)


def test_numba_s_own_thread_count_is_left_alone():
    before = numba.get_num_threads()
    kernels.add(normal(0, 100, 100), normal(1, 100, 100))
    assert numba.get_num_threads() == before


@pytest.mark.slow
@pytest.mark.skipif(kernels.max_num_threads() == 1, reason="one processor")
def test_several_python_threads_may_call_where_numba_has_only_its_workqueue():
    program = """
from concurrent.futures import ThreadPoolExecutor
import numba
x = normal(7, 1, 11, 13, 37)
expected = every_op(x)
with ThreadPoolExecutor(4) as pool:
    for results in pool.map(every_op, [x] * 16):
        assert all((results[name] == expected[name]).all() for name in expected)
print(numba.threading_layer())
"""
    assert run_python(program, NUMBA_THREADING_LAYER="workqueue") == "workqueue\n"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_works_on_one_thread():
    program = """
import os
x = normal(7, 2, 11, 13, 37)
expected = every_op(x)
child = os.fork()
if child == 0:
    ok = kernels.get_num_threads() == 1 and kernels.max_num_threads() == 1
    try:
        kernels.set_num_threads(2)
    except ValueError as error:
        ok = ok and str(error) == "threads must be from 1 to 1 (a forked process cannot use more), not 2"
    else:
        ok = False
    list(kernels.warm_up())
    actual = every_op(x)
    os._exit(0 if ok and all((actual[name] == expected[name]).all() for name in expected) else 1)
again = every_op(x)
print("child", os.waitpid(child, 0)[1], "parent", all((again[name] == expected[name]).all() for name in expected))
"""
    assert run_python(program) == "child 0 parent True\n"


def test_a_program_runs_what_it_recorded_on_the_arrays_as_they_are_then():
    x, doubled = np.ones(3, np.float32), np.zeros(3, np.float32)
    with kernels.recording() as program:
        kernels.add(x, x, out=doubled)
        kernels.call(lambda: doubled.__iadd__(1))
        kernels.add(doubled, x, out=x)
    assert (doubled.tolist(), x.tolist()) == ([0, 0, 0], [1, 1, 1])
    program.run()
    assert (doubled.tolist(), x.tolist()) == ([3, 3, 3], [4, 4, 4])
    program.run()
    assert (doubled.tolist(), x.tolist()) == ([9, 9, 9], [13, 13, 13])


def test_the_scratch_of_a_program_is_known_before_anything_is_compiled():
    def step(scratch):
        kernel = jit.Kernel(_copy_first, jit.SIGNATURE)
        return Step(kernel, 1, [], np.zeros(1, np.float32), scratch=scratch)

    program = Program([step(100), step(1000), step(10)])
    assert program.scratch_bytes == 4000
    assert not any(part.kernel._compiler.overloads for part in program.parts)
    assert Program().scratch_bytes == 0


def test_a_second_process_compiles_from_the_other_end(monkeypatch):
    class Fake:
        def __init__(self, name, ready):
            self.name, self.is_ready = name, lambda: ready
            self.address = 0

        @property
        def run(self):
            compiled.append(self.name)

    compiled = []
    module = sys.modules["tinymvit.kernels.runtime.warm_up"]
    monkeypatch.setattr(module, "KERNELS", [Fake("first", False), Fake("second", True), Fake("third", False)])
    module.compile_backwards()
    assert compiled == ["third", "first"]


def test_the_second_process_is_started_with_what_it_needs(monkeypatch):
    started = []
    module = sys.modules["tinymvit.kernels.runtime.warm_up"]
    with monkeypatch.context() as patch:
        patch.setattr(module, "is_cached", lambda: False)
        patch.setattr(module, "cache_folder", lambda: Path("somewhere"))
        patch.setattr(module, "max_num_threads", lambda: 2)
        patch.setattr(module.subprocess, "Popen", lambda command, **_: started.append(command) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(kernels.warm_up())
    ((*command, program),) = started
    program = program.replace("compile_backwards()", "print(compile_backwards.__module__)")
    printed = subprocess.run([*command, program], capture_output=True, text=True, check=True).stdout
    assert printed == "tinymvit.kernels.runtime.warm_up\n"


def test_without_a_second_process_one_compiles_it_all(monkeypatch):
    module = sys.modules["tinymvit.kernels.runtime.warm_up"]
    monkeypatch.setattr(module, "is_cached", lambda: False)
    monkeypatch.setattr(module, "cache_folder", lambda: Path("somewhere"))
    monkeypatch.setattr(module.sys, "executable", "/no/python/here")
    names = [name for _, _, name in kernels.warm_up()]
    assert names[1:] == [kernel.name for kernel in jit.KERNELS]


def test_helpers_have_names_of_their_own():
    """Else a kernel from the cache could call another's helper: machine code is found by name."""
    names = [(helper.__module__, helper.__qualname__) for helper in jit.HELPERS]
    assert len(set(names)) == len(names)


def _copy_first(arrays, sizes, first, last):
    arrays[4][0] = arrays[0][0]


def run_copy_first(kernel):
    out = np.zeros(1, np.float32)
    kernel.run((np.float32([7]), jit.EMPTY, jit.EMPTY, jit.EMPTY, out, jit.EMPTY), np.zeros(0, np.int64), 0, 1)
    assert out[0] == 7


def copy_first_ready():
    return jit.Kernel(_copy_first, jit.SIGNATURE).is_ready()


def test_kernels_work_where_no_cache_can_be_written(monkeypatch):
    monkeypatch.setattr(cache, "_folders", lambda: [])
    kernel = jit.Kernel(_copy_first, jit.SIGNATURE)
    assert kernel.file is None
    assert not kernel.is_ready()
    run_copy_first(kernel)
    assert kernel.is_ready()


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: content[:-1] + b"?", lambda _: b""])
def test_a_damaged_cache_is_replaced(monkeypatch, tmp_path, damage):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    run_copy_first(jit.Kernel(_copy_first, jit.SIGNATURE))
    (file,) = tmp_path.rglob("*.pickle")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    run_copy_first(jit.Kernel(_copy_first, jit.SIGNATURE))
    assert len(file.read_bytes()) == pytest.approx(len(whole), rel=0.1)


def test_the_cache_is_keyed_by_the_sources_the_processor_and_the_versions(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    run_copy_first(jit.Kernel(_copy_first, jit.SIGNATURE))
    assert copy_first_ready()
    names = {(cache, "SOURCES"), (cache.numba, "__version__"), (cache.llvmlite, "__version__"), (sys, "version")}
    for place, name in names:
        with monkeypatch.context() as changed:
            changed.setattr(place, name, "another")
            assert not copy_first_ready()
    kernel = jit.Kernel(_copy_first, jit.SIGNATURE)
    triple, cpu, features, *told = kernel._target()
    assert cpu in (numba.config.CPU_NAME, binding.get_host_cpu_name())
    assert "+fma" in features or platform.machine() not in ("x86_64", "AMD64")
    for target in ((triple, "i486", features, *told), (triple, cpu, "", *told)):
        assert not cache.KernelCache(_copy_first, jit.SIGNATURE, lambda target=target: target).file.exists()
    run_copy_first(kernel)


def test_the_cache_is_keyed_by_what_numba_was_told(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    run_copy_first(jit.Kernel(_copy_first, jit.SIGNATURE))
    for name, value in (("OPT", 0), ("BOUNDSCHECK", 1), ("DEBUGINFO_DEFAULT", 1)):
        with monkeypatch.context() as changed:
            changed.setattr(numba.config, name, value)
            assert not copy_first_ready()
    assert copy_first_ready()


@pytest.mark.parametrize("features", ["rubbish", "+", "avx2,+fma", "+avx2, +fma"])
def test_features_that_llvm_cannot_read_are_refused(monkeypatch, features):
    """LLVM would end the process, by an assertion."""
    monkeypatch.setattr(numba.config, "CPU_FEATURES", features)
    wrong = next(feature for feature in features.split(",") if not feature.startswith("+") or feature == "+")
    line = f"NUMBA_CPU_FEATURES must be +feature and -feature, separated by commas, but has {wrong!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        jit.Kernel(_copy_first, jit.SIGNATURE)


def test_features_that_the_processor_lacks_are_refused(monkeypatch):
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: {"fma": True, "avx512f": False})
    for features in (None, "", "+fma,-avx512f", "+fma,+unheard-of"):
        jit.check_features(features)
    jit.check_features.cache_clear()
    line = "NUMBA_CPU_FEATURES has +avx512f; expected only what this processor has"
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        jit.check_features("+fma,+avx512f")


def test_the_sources_are_all_files_of_the_folder():
    contents = [path.read_bytes() for path in sorted(Path(cache.__file__).parent.parent.rglob("*.py"))]
    assert cache.digest(*contents) == cache.SOURCES
    assert len(contents) > 20


def test_kernels_of_sources_that_are_no_more_are_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as changed:
        changed.setattr(cache, "SOURCES", "yesterday")
        run_copy_first(jit.Kernel(_copy_first, jit.SIGNATURE))
    other = jit.Kernel(_copy_first, jit.SIGNATURE).file.parent / "another.kernel.yesterday.pickle"
    other.write_bytes(b"")
    run_copy_first(jit.Kernel(_copy_first, jit.SIGNATURE))
    assert {file.name.split(".")[-2] for file in other.parent.iterdir()} == {cache.SOURCES, "yesterday"}
    assert len(list(other.parent.iterdir())) == 2


def test_a_full_disk_costs_only_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    kernel = jit.Kernel(_copy_first, jit.SIGNATURE)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    run_copy_first(kernel)
    assert list(kernel.file.parent.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="each user has temporary files of their own")
def test_a_temporary_cache_that_others_can_write_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = cache._private_temporary_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert cache._private_temporary_folder() is None
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert cache._private_temporary_folder() is None
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert cache._private_temporary_folder() is None


# An installation that nobody may write, not even root, who gives up the right to write everywhere by `exec`.
WITHOUT_RIGHTS = """
import ctypes, os, sys
for capability in (1, 2, 3):  # to write, to read, to change the mode of what is another's or locked
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-P", "-c", sys.argv[1]])
"""
ADD_ON_ONE_THREAD = """
import numpy as np
from tinymvit import kernels
from tinymvit.kernels.add import _add
kernels.set_num_threads(1)
ready = _add.is_ready()
assert kernels.add(np.ones(3, np.float32), np.ones(3, np.float32)).tolist() == [2, 2, 2]
print(ready, _add.file and _add.file.parent)
"""


@pytest.fixture
def installation(tmp_path):
    """A copy of the package without compiled kernels, and how to run a program with it where no home is."""
    root = Path(cache.__file__).parent.parent.parent
    package = tmp_path / "site" / "tinymvit"
    for part, place in (("tinymvit", package), ("kernels", package / "kernels"), ("weights", package / "weights")):
        shutil.copytree(root / part, place, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    (tmp_path / "tmp").mkdir()
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    environment |= {"HOME": str(locked), "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(package.parent)}
    # The folder that PYTHONPATH names comes after an editable installation of the package, which is left out.
    program = "import sys\nsys.meta_path = [each for each in sys.meta_path if 'ditable' not in str(each)]\n"

    def run(**changed):
        command = [sys.executable, "-c", WITHOUT_RIGHTS, program + ADD_ON_ONE_THREAD]
        result = subprocess.run(command, env=environment | changed, cwd=locked, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        ready, _, folder = result.stdout.strip().partition(" ")
        return ready == "True", folder

    yield package / "kernels", run
    for path in (package / "kernels", package / "kernels" / "__pycache__", locked):
        if path.exists():
            path.chmod(0o755)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gives up rights as Linux does")
def test_an_installation_that_cannot_be_written(installation, tmp_path):
    folder, run = installation
    folder.chmod(0o555)
    nowhere = {"NUMBA_CACHE_DIR": str(tmp_path / "locked" / "cache")}
    ready, place = run(**nowhere)
    assert (ready, Path(place).parent) == (False, tmp_path / "tmp" / f"tinymvit-{os.getuid()}")
    assert run(**nowhere) == (True, place)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gives up rights as Linux does")
def test_kernels_compiled_ahead_are_used_where_they_cannot_be_written(installation):
    folder, run = installation
    beside = str(folder / "__pycache__")
    assert run() == (False, beside)
    (folder / "__pycache__").chmod(0o555)
    folder.chmod(0o555)
    assert run() == (True, beside)
    with (folder / "unfold.py").open("a") as file:  # another kernel's file
        file.write("# edited\n")
    ready, place = run()
    assert not ready
    assert place != beside
