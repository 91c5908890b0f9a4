"""`tinymvit warmup`: what it compiles, and what it says."""

from command_line import run
from tinymvit import kernels
from tinymvit.commands import progress


def test_warmup_compiles_for_one_thread_and_for_many(capsys, monkeypatch):
    compiled = []
    monkeypatch.setattr(kernels, "is_cached", lambda: False)
    monkeypatch.setattr(progress, "compile_kernels", lambda: compiled.append(kernels.get_num_threads()))
    before = kernels.get_num_threads()
    try:
        code, out, err = run(capsys, "warmup")
    finally:
        kernels.set_num_threads(before)
    assert (code, err) == (0, "")
    assert compiled == sorted({1, kernels.max_num_threads()})
    assert out.startswith("compiled the kernels in ")
    assert out.rstrip().endswith(str(kernels.cache_folder()))


def test_warmup_says_when_nothing_is_left_and_when_nothing_can_be_kept(capsys, monkeypatch):
    before = kernels.get_num_threads()
    try:
        list(kernels.warm_up())
        monkeypatch.setattr(kernels, "is_cached", lambda: True)
        assert run(capsys, "warmup") == (0, f"all kernels are compiled: {kernels.cache_folder()}\n", "")
        monkeypatch.setattr(kernels, "cache_folder", lambda: None)
        code, out, err = run(capsys, "warmup")
    finally:
        kernels.set_num_threads(before)
    assert (code, out) == (2, "")
    assert err == (
        "tinymvit: no folder to keep the compiled kernels in can be written; name one in NUMBA_CACHE_DIR, "
        "or every process compiles them again\n"
    )
