"""Run the crash suite's stories side by side: each in a process and on a control plane of its own.

One operator looks after all that is in its cluster, and a death costs it a start that looks at everything. So stories that
shared a cluster would pay for each other's tenants, and would die each other's deaths; apart, they pass the time in which
one has to wait, or must be quiet, with each other.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from renderfleet_cluster.say import line
from renderfleet_faults.scenarios import Scenario

AT_A_TIME = 2 * (os.cpu_count() or 1)
"""A story waits for more than half of its time."""
_TAKE_DOWN_SECONDS = 60.0


async def side_by_side(stories: Sequence[Scenario], *, quick: bool, at_a_time: int = AT_A_TIME) -> dict[str, int]:
    """Exit code of each story's process, by name. What they say comes through as they say it."""
    room = asyncio.Semaphore(at_a_time)
    codes: dict[str, int] = {}

    async def one(story: Scenario) -> None:
        async with room:
            begin = time.monotonic()
            codes[story.name] = await _run(story.name, quick=quick)
        word = {0: "good", 1: "BAD"}.get(codes[story.name], f"ended with {codes[story.name]}")
        line(f"{story.name}: {word} after {time.monotonic() - begin:.0f} s; {len(codes)} of {len(stories)} stories")

    async with asyncio.TaskGroup() as group:
        # Those with the most runners take longest, so they must not be begun last.
        for story in sorted(stories, key=lambda story: -sum(story.paid.values())):
            group.create_task(one(story))
    return codes


async def _run(name: str, *, quick: bool) -> int:
    command = [sys.executable, "-m", "renderfleet_faults", "crash", "--kind", name, *(["--quick"] if quick else [])]
    child = await asyncio.create_subprocess_exec(
        # Asked to end, it takes its control plane down.
        *("setpriv", "--pdeathsig", "TERM", "--", *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stderr is not None
    try:
        async for said in child.stderr:
            print(f"{name:20}{said.decode(errors='replace').rstrip()}", file=sys.stderr, flush=True)
        return await child.wait()
    finally:
        if child.returncode is None:
            child.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(_drained(child), _TAKE_DOWN_SECONDS)
            if child.returncode is None:
                child.kill()


async def _drained(child: asyncio.subprocess.Process) -> None:
    """Wait for its end; unread, its last words would hold it up."""
    assert child.stderr is not None
    await child.stderr.read()
    await child.wait()
