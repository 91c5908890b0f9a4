"""The default number of threads follows the cores, the affinity, NUMBA_NUM_THREADS and the quotas of control groups."""

import os
import subprocess
import sys

import pytest

from tinymvit.kernels.runtime import threads

NO_LIMIT = sys.maxsize


@pytest.fixture
def system(tmp_path, monkeypatch):
    """`system(files)` makes the files of a small /proc and /sys, in which the process stands."""
    monkeypatch.setattr(threads, "ROOT", tmp_path)

    def make(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return make


def version_1(group, quota, period=100_000, mount="cpu,cpuacct"):
    folder = f"sys/fs/cgroup/{mount}{group}"
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


VERSION_2 = {"proc/self/cgroup": "0::/user/job\n"}
VERSION_1 = {"proc/self/cgroup": "7:memory:/job\n4:cpu,cpuacct:/docker/1234\n0::/\n"}
QUOTAS = {
    "no groups": ({}, NO_LIMIT),
    "no limit": (VERSION_2 | {"sys/fs/cgroup/user/job/cpu.max": "max 100000\n"}, NO_LIMIT),
    "two processors": (VERSION_2 | {"sys/fs/cgroup/user/job/cpu.max": "200000 100000\n"}, 2),
    "a part of one": (VERSION_2 | {"sys/fs/cgroup/user/job/cpu.max": "50000 100000\n"}, 1),
    "one and a half": (VERSION_2 | {"sys/fs/cgroup/user/job/cpu.max": "150000 100000\n"}, 2),
    "of a group above": (
        VERSION_2
        | {"sys/fs/cgroup/user/job/cpu.max": "400000 100000\n", "sys/fs/cgroup/user/cpu.max": "300000 100000\n"},
        3,
    ),
    "in a container": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
    "a name outside": (VERSION_2 | {"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
    "both versions": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/unified/cpu.max": "100000 100000\n"}, 1),
    "version 1": (VERSION_1 | version_1("/docker/1234", 250_000), 3),
    "version 1, another period": (VERSION_1 | version_1("/docker/1234", 100_000, 50_000), 2),
    "version 1, no limit": (VERSION_1 | version_1("/docker/1234", -1), NO_LIMIT),
    "version 1, in a container": (VERSION_1 | version_1("", 200_000), 2),
    "version 1, linked": (VERSION_1 | version_1("", 200_000, mount="cpu"), 2),
    "rubbish": (VERSION_2 | {"sys/fs/cgroup/user/job/cpu.max": "many\n"}, NO_LIMIT),
    "a period of nothing": (VERSION_2 | {"sys/fs/cgroup/user/job/cpu.max": "1000 0\n"}, NO_LIMIT),
    "rubbish for groups": ({"proc/self/cgroup": "what\n::\n0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_quotas(system, case):
    files, expected = QUOTAS[case]
    system(files)
    assert threads._quota() == expected


def test_the_default_is_the_least_of_all(system, monkeypatch):
    for number in range(8):  # four cores of two hyperthreads
        first = number // 2 * 2
        system({f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list": f"{first}-{first + 1}\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", 8)

    def default():
        monkeypatch.setattr(threads, "_threads", None)
        return threads.get_num_threads()

    assert default() == 4
    monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", 3)
    assert default() == 3
    system({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"})
    assert default() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert default() == 1


PRINT = "import os; {}; import tinymvit; print(tinymvit.get_num_threads(), tinymvit.kernels.max_num_threads())"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_one_processor_by_affinity():
    program = PRINT.format("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("1 1\n", "")


@pytest.mark.slow
def test_the_number_that_numba_is_given():
    environment = os.environ | {"NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PRINT.format("pass")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("1 1\n", "")
