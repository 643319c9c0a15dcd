"""The command line: `python -m renderfleet_bench [--quick] [--only PART …]`. Prints a table and, last, one line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import uvloop

from renderfleet_bench.plan import FULL, PARTS, QUICK, Plan
from renderfleet_bench.report import Report
from renderfleet_bench.run import Run
from renderfleet_cluster.places import REPOSITORY
from renderfleet_cluster.say import Trouble

OUT = REPOSITORY / "out" / "bench"


def main(arguments: list[str] | None = None) -> int:
    """0 when all was measured, whether bars were missed or not; 1 when the bench itself failed."""
    parser = argparse.ArgumentParser(prog="python -m renderfleet_bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller numbers, at most 6 minutes instead of 25")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="PART", help=f"measure only these, of {', '.join(PARTS)}"
    )
    chosen = parser.parse_args(arguments)
    plan = QUICK if chosen.quick else FULL
    if chosen.only:
        plan = replace(plan, name=f"{plan.name}-some", parts=tuple(chosen.only))
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / "running").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(
                f"error: another bench runs here ({lock.name} is locked): two at once would measure each other",
                file=sys.stderr,
            )
            return 1
        return run(plan)


def run(plan: Plan) -> int:
    """Measure, print and write; returns the exit code."""
    logs = OUT / "logs" / plan.name
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    scratch = Path(tempfile.mkdtemp(prefix="renderfleet-bench-"))
    try:
        report = uvloop.run(until_terminated(Run(plan, scratch, logs)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\nstopped; nothing is left running", file=sys.stderr)
        return 130
    except (Trouble, BaseExceptionGroup) as failure:
        unknown = [one for one in leaves(failure) if not isinstance(one, Trouble)]
        if unknown:
            raise
        for one in leaves(failure):
            print(f"\nerror: {one}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    write(report, plan)
    print(f"\n{report.text()}\n\n{report.last_line()}")
    if report.has_failed:
        print("error: nothing could be measured in time: is the machine busy otherwise?", file=sys.stderr)
        return 1
    return 0


async def until_terminated(bench: Run) -> Report:
    """Measure; SIGTERM ends it as Ctrl-C does, with everything taken down."""
    measuring = asyncio.current_task()
    assert measuring is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, measuring.cancel)
    return await bench.measure()


def leaves(failure: BaseException) -> list[BaseException]:
    """The single errors of a group, of whatever depth; an error that is no group is its own leaf."""
    if not isinstance(failure, BaseExceptionGroup):
        return [failure]
    return [leaf for one in failure.exceptions for leaf in leaves(one)]


def write(report: Report, plan: Plan) -> None:
    """The same as is printed, and every single measurement, in out/bench."""
    (OUT / f"{plan.name}.txt").write_text(f"{report.text()}\n\n{report.last_line()}\n")
    (OUT / f"{plan.name}.json").write_text(json.dumps(report.content(), indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
