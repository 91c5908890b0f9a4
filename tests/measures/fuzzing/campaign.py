"""The campaign: cases of all targets, in processes that are watched and replaced, and the summary of it."""

import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import rules
from .targets import TARGETS

PROGRAM = Path(__file__).parent.parent / "fuzz.py"
AT_ONCE = 40  # cases that a worker is given at once
CASES_OF_A_WORKER = 20_000  # then a new process takes its place
UNSURE = ("hang", "memory", "crash")  # kinds of findings that a second run in a fresh process must confirm, once
SHOWN = 3  # cases of a group of findings in the summary


# ---- in a worker ----


def work(root):
    """Run the cases that stdin names, one JSON list a line, and answer each with a line on stdout."""
    from . import cases
    from .sandbox import Sandbox, resident

    answers = os.fdopen(os.dup(1), "w")
    printed = os.open(f"{root}/printed", os.O_RDWR | os.O_CREAT)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": f"{root}/hub",
        "MPLCONFIGDIR": f"{root}/matplotlib",
        "MPLBACKEND": "Agg",
    }
    os.environ |= {"HOME": f"{root}/home", "OMP_NUM_THREADS": "1"}
    sandbox = Sandbox(root, printed)
    cases.prepare()
    resource.setrlimit(resource.RLIMIT_AS, (rules.ADDRESS_SPACE, rules.ADDRESS_SPACE))
    baseline = resident()
    for line in sys.stdin:
        for target, seed, number in json.loads(line):
            outcome = cases.run(TARGETS[target].make, target, seed, number, sandbox, baseline)
            print(json.dumps(asdict(outcome)), file=answers, flush=True)
            if outcome.worn:
                return


class _Worker:
    """A process that runs cases, in a folder of its own."""

    def __init__(self):
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # no disk is worn, and no case waits for one
        self.root = tempfile.mkdtemp(prefix="fuzz-", dir=memory)
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), "--worker", self.root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.buffer = b""
        self.ran = 0

    def send(self, cases):
        self.process.stdin.write(json.dumps(list(cases)).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, seconds):
        """The next case's outcome; a text that says why there is none."""
        end = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            if not ready:
                return "hang"
            got = os.read(self.process.stdout.fileno(), 2**16)
            if not got:
                return f"crash with exit code {self.process.wait()}"
            self.buffer += got
        line, _, self.buffer = self.buffer.partition(b"\n")
        self.ran += 1
        return json.loads(line)

    def printed(self):
        path = Path(self.root, "printed")
        return ascii(path.read_bytes()[-600:].decode("utf-8", "replace")) if path.exists() else ""

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        shutil.rmtree(self.root, ignore_errors=True)


# ---- over all workers ----


@dataclass
class Summary:
    """What a campaign found. endings: how many cases of each target were accepted, refused and found wrong.
    findings: cases and what happened in them, by signature. unconfirmed: those that a second run did not show again."""

    endings: dict = field(default_factory=dict)
    findings: dict = field(default_factory=dict)
    unconfirmed: list = field(default_factory=list)
    seconds_of: Counter = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def cases(self):
        return sum(sum(counter.values()) for counter in self.endings.values())

    def add(self, case, outcome, seconds):
        target, seed, number = case
        self.endings.setdefault(target, Counter())[outcome["ending"]] += 1
        self.seconds_of[target] += seconds
        if outcome["ending"] in ("found", "unmade"):
            cases = self.findings.setdefault(outcome["signature"], [])
            cases.append((f"--seed {seed} --only {target}:{number}", outcome["detail"]))

    def lines(self):
        """The summary as text."""
        yield f"{'target':24} {'cases':>8} {'accepted':>9} {'refused':>9} {'found':>7} {'ms':>7}"
        for target, counter in sorted(self.endings.items()):
            count = sum(counter.values())
            shares = [f"{counter[ending] / count:9.1%}" for ending in ("accepted", "refused")]
            each = 1000 * self.seconds_of[target] / count
            yield f"{target:24} {count:8} {shares[0]} {shares[1]} {counter['found']:7} {each:7.1f}"
        for signature, cases in sorted(self.findings.items(), key=lambda item: -len(item[1])):
            yield f"\n{len(cases)} x {signature}"
            for how, detail in cases[:SHOWN]:
                yield f"    {how}: {detail}"
        for how in self.unconfirmed:
            yield f"not seen again: {how}"
        rate = self.cases / self.seconds if self.seconds else 0
        found = f"{self.cases} cases, {len(self.findings)} kinds of findings"
        yield f"\n{found}, {self.seconds:.0f} s, {rate:.0f} cases a second"


def planned(cases, seed, only=()):
    """The cases of a campaign, by target and number, in an order that mixes the targets: a target's share of them."""
    import random

    chosen = {name: target.share for name, target in TARGETS.items() if not only or name in only}
    total = sum(chosen.values())
    plan = []
    for name, share in chosen.items():
        numbers = range(max(1, round(cases * share / total)))
        plan += [(name, seed, number) for number in numbers]
    random.Random(seed).shuffle(plan)
    return plan


def run(plan, workers, show=lambda text: None):
    """Run these cases and return the `Summary`."""
    summary, lock, start = Summary(), threading.Lock(), time.monotonic()
    todo = deque(plan)

    def take():
        with lock:
            return [todo.popleft() for _ in range(min(AT_ONCE, len(todo)))]

    def record(case, outcome, seconds, again=None):
        with lock:
            if again is not None and again["ending"] != "found":
                summary.unconfirmed.append(f"--seed {case[1]} --only {case[0]}:{case[2]}: {outcome['detail'][:200]}")
                outcome = again
            is_new = outcome["signature"] not in summary.findings
            summary.add(case, outcome, seconds)
            if outcome["ending"] in ("found", "unmade") and is_new:
                show(f"--seed {case[1]} --only {case[0]}:{case[2]}: {outcome['signature']}: {outcome['detail'][-200:]}")
            if summary.cases % 10_000 == 0:
                show(f"{summary.cases} cases, {time.monotonic() - start:.0f} s")

    threads = [
        threading.Thread(target=_one_after_another, args=(take, record, summary.findings.__contains__))
        for _ in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    summary.seconds = time.monotonic() - start
    return summary


def _one_after_another(take, record, known):
    worker = None
    while cases := deque(take()):
        while cases:
            worker = worker or _Worker()
            worker.send(cases)
            while cases:
                start = time.monotonic()
                outcome, worker = _outcome(worker, cases[0])
                seconds, again = time.monotonic() - start, None
                if any(f": {kind}" in outcome["signature"] for kind in UNSURE) and not known(outcome["signature"]):
                    if worker is not None:
                        worker.close()
                    again, worker = _alone(cases[0])
                record(cases.popleft(), outcome, seconds, again)
                if worker is None:
                    break
                if again is not None:
                    break
        if worker is not None and worker.ran > CASES_OF_A_WORKER:
            worker.close()
            worker = None
    if worker is not None:
        worker.close()


def _outcome(worker, case):
    """How a worker's next case ended, and the worker, or None if it cannot go on."""
    answer = worker.answer(TARGETS[case[0]].seconds)
    if isinstance(answer, str):
        detail = f"{answer}; printed {worker.printed()}"
        worker.close()
        return {"ending": "found", "signature": f"{case[0]}: {answer}", "detail": detail, "worn": True}, None
    if answer["worn"]:
        worker.close()
        return answer, None
    return answer, worker


def _alone(case):
    """How a case ends in a fresh process."""
    worker = _Worker()
    worker.send([case])
    return _outcome(worker, case)
