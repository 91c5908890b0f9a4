"""The race: its numbers on known times, its table, and peers that lie, fail and die.

Nothing here depends on how long anything takes.
"""

import subprocess
import sys

import numpy as np
import pytest

import fake_peers
from tinymvit.bench import peers, report
from tinymvit.bench import race as bench
from tinymvit.bench.contestant import peak_bytes
from tinymvit.errors import ContestantError

PIXELS = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)


# ---- numbers ----


def test_times_of_known_numbers():
    s = bench.Times.of([float(n) for n in range(100, 200)][::-1])  # 100 to 199
    assert s.minimum == 100
    assert s.median == 149.5
    assert s.p90 == pytest.approx(189.1)
    assert s.spread == pytest.approx((174.25 - 124.75) / 149.5)
    assert bench.Times.of([2.0]) == bench.Times(2, 2, 2, 0)


def test_agreement_of_known_numbers():
    ours = np.array([[3.0, -4.0]], np.float32)
    theirs = np.array([[3.0, -4.5]], np.float32)
    agreement = bench.Agreement.between(theirs, ours)
    assert agreement.relative_rms == pytest.approx(0.5 / 5)
    assert agreement.largest == pytest.approx(0.5 / 4)
    assert bench.Agreement.between(ours, ours) == bench.Agreement(0, 0)


def test_ratios_and_the_best_peer():
    def result(name, milliseconds, slow=(1,)):
        rounds = [[1e-3 * factor * each for each in milliseconds] for factor in slow]
        return bench.Result(name, "1.0", 1, 0.5, 0.25, 0.1, bench.Agreement(2e-7, 3e-7), rounds, 5_000_000)

    race = bench.Race(
        [result("tinymvit", [2, 2, 4]), result("even", [5, 5, 5]), result("lucky", [3, 9, 9])], {"gone": "gone: lost"}
    )
    assert race.ratios(race.results[2]) == pytest.approx((4.5, 1.5))
    assert race.ratios(race.results[0]) == (1, 1)
    lines = report.format_race(race).splitlines()
    assert lines[-3:] == [
        "best peer / ours: 2.50 by medians (even), 1.50 by minima (lucky)",
        "spread above 20 % for tinymvit, lucky: other work ran beside; repeat this",
        "gone: lost",
    ]
    slow_for_both = (1, 3, 5)
    race = bench.Race([result("tinymvit", [2, 2, 4], slow_for_both), result("even", [5, 5, 5], slow_for_both)], {})
    race.results[1].rounds[2] = [1.0]  # and one round that was slow for one
    assert race.ratios(race.results[1]) == pytest.approx((2.5, 2.5))
    table = lines[:6]
    assert len({len(line) for line in table}) == 1, "the columns are aligned"
    assert " ".join(lines[3].split()) == "tinymvit 1.0 1.00 0.50 0.25 100 2.00 2.00 3.60 50 1.00 1.00 5 -"


def test_peak_memory_is_that_of_the_process_itself():
    """Not of its parent, which Linux's getrusage would give."""
    assert peak_bytes() > 50e6
    program = "from tinymvit.bench.contestant import peak_bytes; print(peak_bytes())"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 5e6 < int(result.stdout) < min(peak_bytes(), 100e6)


def test_a_contestant_starts_light():
    program = "import sys, tinymvit.bench.contestant; print({'numba', 'torch', 'PIL', 'tqdm'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


# ---- the race ----


@pytest.mark.slow
def test_peers_that_lie_fail_or_die_are_one_line_each_and_the_others_go_on(checkpoint, fakes):
    race = bench.race(checkpoint, PIXELS, fake_peers.FAKES, threads=1, rounds=2, runs=1)
    assert [each.name for each in race.results] == ["tinymvit", "honest"]
    for each in race.results:
        assert [len(seconds) for seconds in each.rounds] == [1, 1]
        assert each.agreement == bench.Agreement(0, 0)
        assert each.started > each.imported + each.loaded + each.first
    assert race.absent == {
        "liar": "liar: not timed: its answer differs from ours (relative rms 1.0e-03, at most 1e-04 is taken for "
        "rounding)",
        "blank": "blank: not timed: its answer differs from ours (relative rms inf, at most 1e-04 is taken for "
        "rounding)",
        "short": "short: not timed: its logits have shape (1, 4), ours (1, 5)",
        "broken": "broken: its process ended: RuntimeError: the model is too beautiful",
        "killed": "killed: its process ended: SIGKILL",
        "tired": "tired: its process ended: exit code 3",
        "unmade": "unmade: making model.fake failed: ValueError: an op that no format has",
    }


@pytest.mark.slow
def test_if_we_fail_ourselves_that_is_an_error(checkpoint, fakes):
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(ContestantError, match=r"tinymvit: its process ended: CheckpointError: .*safetensors"):
        bench.race(checkpoint, PIXELS, [], threads=1, rounds=1, runs=1)


@pytest.mark.slow
def test_no_process_is_left_when_a_race_is_broken_off(checkpoint, fakes, monkeypatch):
    started = []

    def interrupted(self, runs):
        started.append(self._process)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.Contestant, "round", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.race(checkpoint, PIXELS, ["honest"], threads=1, rounds=1, runs=1)
    assert started[0].poll() is not None


@pytest.mark.torch
def test_every_peer_that_is_installed_gives_our_answer(checkpoint):
    names = [name for name, peer in peers.PEERS.items() if name != peers.OURS and peers.missing(peer) is None]
    race = bench.race(checkpoint, np.repeat(PIXELS, 2, axis=0), names, threads=1, rounds=1, runs=1)
    assert race.absent == {}
    assert "torch" in names
    for result in race.results[1:]:
        assert 0 < result.agreement.relative_rms < 5e-6, result.name
