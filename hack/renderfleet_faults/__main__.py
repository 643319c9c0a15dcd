"""`python -m renderfleet_faults crash|money`: run a fault suite on a control plane of its own."""

import argparse
import asyncio
import signal
import sys

from renderfleet_cluster.say import Trouble
from renderfleet_faults.parts import Part
from renderfleet_faults.scenarios import SCENARIOS
from renderfleet_faults.sidebyside import AT_A_TIME

ABOUT = """\
Break things on purpose, at every point where it could hurt, and look whether the world comes out right.

crash   a real operator on a real control plane: killed before and after each of its writes, told 504 for writes that were
        carried out, deprived of each line of its watches. The end must be the same as undisturbed.
money   real runners against the vendor stand-in and real object storage: killed, deleted, started twice at each of their
        requests. Nothing may be paid twice, nothing that was paid may be lost.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one suite; 0 when all is well, 1 for a bad verdict."""
    parser = argparse.ArgumentParser(
        prog="python -m renderfleet_faults", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", nargs="?", default="crash", choices=("crash", "money"))
    parser.add_argument(
        "--kind", action="append", default=[], metavar="NAME", help="only these stories or stages (may be repeated)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="the same points, but a short quiet time and fewer ways to break"
    )
    parser.add_argument(
        "--part", type=Part.read, default=Part(), metavar="N/M", help="money: every M-th point from the N-th on"
    )
    parser.add_argument(
        "--point",
        action="append",
        default=[],
        metavar="WORDS",
        help="crash: only points with these words, as `dies before writes #3` (may be repeated)",
    )
    parser.add_argument(
        "--at-a-time",
        type=int,
        default=AT_A_TIME,
        metavar="N",
        help=f"crash: stories side by side (default {AT_A_TIME})",
    )
    parser.add_argument("--list", action="store_true", help="name the stories and end")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for one in SCENARIOS:
            print(f"{one.name:22} {one.about}")
        return 0
    try:
        return 0 if asyncio.run(_run(chosen)) else 1
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("\nstopped", file=sys.stderr)
        return 2
    except Trouble as trouble:
        print(f"\nerror: {trouble}", file=sys.stderr)
        return 2


async def _run(chosen: argparse.Namespace) -> bool:
    task = asyncio.current_task()
    assert task is not None
    # Without this a SIGTERM would leave a whole control plane behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    if chosen.suite == "crash":
        from renderfleet_faults.crash import crash_suite

        return await crash_suite(chosen.kind, chosen.point, quick=chosen.quick, at_a_time=chosen.at_a_time)
    from renderfleet_faults.money import money_suite

    return await money_suite(chosen.kind, quick=chosen.quick, part=chosen.part)


if __name__ == "__main__":
    sys.exit(main())
