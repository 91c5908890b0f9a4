"""A campaign of random input that is nearly right, over all readers, functions and commands.

    python tests/measures/fuzz.py --cases 300000 --workers 2 --seed 1
    python tests/measures/fuzz.py --seed 1 --only pictures:1234        # a finding again

A case is to end in an answer or in one clear line, soon, in little memory, without a trace outside of its folder:
`fuzzing/rules.py` says all of it. Printed are the cases of each target, how many of them were accepted and refused, and
the findings in groups, each with what makes it happen again. The exit code is 1 if there is a finding. Linux only.
"""

import argparse
import sys
from pathlib import Path


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="how many, over all targets (default: 10000)")
    parser.add_argument("--workers", type=int, default=2, help="processes that run cases (default: 2)")
    parser.add_argument("--seed", default="1", help="another seed, other cases (default: 1)")
    parser.add_argument("--target", action="append", default=[], metavar="NAME", help="only this target, or these")
    parser.add_argument("--only", metavar="TARGET:NUMBER", help="one case, in a process that is watched")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the summary, with all findings, there too")
    parser.add_argument("--worker", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)

    from fuzzing import campaign
    from fuzzing.targets import TARGETS

    if options.worker:
        campaign.work(options.worker)
        return 0
    if unknown := set(options.target) - TARGETS.keys():
        parser.error(f"no target is named {', '.join(sorted(unknown))}; expected some of {', '.join(TARGETS)}")
    if options.only:
        target, _, number = options.only.partition(":")
        plan = [(target, options.seed, int(number))]
    else:
        plan = campaign.planned(options.cases, options.seed, options.target)
    summary = campaign.run(plan, options.workers, lambda text: print(text, file=sys.stderr, flush=True))
    text = "\n".join(summary.lines())
    print(text)
    if options.report:
        options.report.write_text(f"{text}\n", encoding="utf-8")
    return 1 if summary.findings else 0


if __name__ == "__main__":
    sys.exit(main())
