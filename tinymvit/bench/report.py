"""What is said about a race: on which machine it was run, and the table of its contestants."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from tinymvit.bench.race import Race
from tinymvit.text import align

SETTINGS = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "ONEDNN_MAX_CPU_ISA")  # which CPU a runtime shall take this one for
STEADY = 0.2  # a spread beyond this says that the machine was busy with something else


def machine() -> dict[str, Any]:
    """The machine on which the times were taken: the CPU's name, its features as LLVM names them, the number of
    processors, the system, Python, and the environment's variables that make a runtime use fewer of the features."""
    from llvmlite import binding

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        name = next((value.strip() for key, _, value in fields if key.strip() == "model name"), name)
    return {
        "cpu": name,
        "cpu_features": sorted(name for name, present in binding.get_host_cpu_features().items() if present),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
    }


def format_race(result: Race) -> str:
    """The table of contestants, the best peer, and why any peer is absent."""
    ours = result.results[0]
    rows = [
        ("", "start", "import", "load", "first", "min", "median", "p90", "spread", "median", "min", "peak", "differs"),
        ("", "s", "s", "s", "ms", "ms", "ms", "ms", "%", "/ ours", "/ ours", "MB", "rel. rms"),
    ]
    for each in result.results:
        times = each.times
        median, minimum = result.ratios(each)
        rows.append(
            (
                f"{each.name} {each.version}",
                f"{each.started:.2f}",
                f"{each.imported:.2f}",
                f"{each.loaded:.2f}",
                f"{1e3 * each.first:.0f}",
                f"{1e3 * times.minimum:.2f}",
                f"{1e3 * times.median:.2f}",
                f"{1e3 * times.p90:.2f}",
                f"{100 * times.spread:.0f}",
                f"{median:.2f}",
                f"{minimum:.2f}",
                "-" if each.peak_bytes is None else f"{each.peak_bytes / 1e6:.0f}",
                "-" if each is ours else f"{each.agreement.relative_rms:.1e}",
            )
        )
    lines = align(rows)
    lines.insert(2, "-" * max(map(len, lines)))
    lines.append("")
    if len(result.results) > 1:
        (median, by_median), (minimum, by_minimum) = result.best()
        lines.append(f"best peer / ours: {median:.2f} by medians ({by_median}), {minimum:.2f} by minima ({by_minimum})")
    unsteady = [each.name for each in result.results if each.times.spread > STEADY]
    if unsteady:
        lines.append(f"spread above {100 * STEADY:.0f} % for {', '.join(unsteady)}: other work ran beside; repeat this")
    return "\n".join([*lines, *result.absent.values()]).rstrip()
