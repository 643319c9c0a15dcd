"""`watch`, and the waiting of `submit`, `retry` and `cancel`: bars in a terminal, a line for each change elsewhere."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Protocol, TextIO

from renderfleet_cli.door import Door, Target, Wanted, find_all, judge, opened
from renderfleet_cli.tables import phase_word
from renderfleet_cli.views import Render
from renderfleet_cli.words import clock
from renderfleet_crds.phases import Phase

_WIDE: Final = 100
"""Columns from which a screen has room for a long bar."""
_FIXED: Final = len("100% 0:00:00 ") + 4
"""What stands on a line beside name, bar and state, with the gaps between them."""

LIVE = tuple(phase for phase in Phase if not phase.is_final)


def watch(
    target: Target, names: Sequence[str], *, selector: str | None, everywhere: bool, timeout_seconds: float | None
) -> None:
    """Follow these, or all that are under way. Raises Failed unless all succeed."""
    with opened(target) as door:
        if names:
            renders = find_all(door, names, everywhere=everywhere)
        else:
            renders = door.renders(Wanted(phases=LIVE, selector=selector, everywhere=everywhere))
        if not renders:
            print("No renders are under way.", file=sys.stderr)
            return
        judge(follow(door, renders, timeout_seconds, sys.stdout))


def follow(door: Door, renders: Sequence[Render], timeout_seconds: float | None, out: TextIO) -> list[Render]:
    """The renders as they are when all are over; until then their progress is on `out`."""
    last = {one.id: one for one in renders}
    with _shown(renders, out) as screen:
        for render in door.follow(renders, timeout_seconds):
            last[render.id] = render
            screen.show(render)
    return list(last.values())


class _Screen(Protocol):
    def show(self, render: Render) -> None: ...


@contextmanager
def _shown(renders: Sequence[Render], out: TextIO) -> Iterator[_Screen]:
    if not out.isatty():
        yield _Lines(out, many_namespaces=len({one.namespace for one in renders}) > 1)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    console = Console(file=out)
    bar = 24 if console.width >= _WIDE else 10
    name = max(len(one.short_ref) for one in renders)
    # Else a long reason would push the bars themselves off a narrow screen: it is the state that is cut, then the name.
    most = max(8, (console.width - bar - _FIXED) // 2)
    progress = Progress(
        TextColumn("{task.description}", table_column=Column(width=min(name, most), no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=bar),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        console=console,
        refresh_per_second=4,
        expand=True,
    )
    with progress:
        yield _Bars(progress, renders)


class _Lines:
    """One line for each change that a reader would notice."""

    def __init__(self, out: TextIO, *, many_namespaces: bool) -> None:
        self._out = out
        self._many = many_namespaces
        self._told: dict[str, str] = {}

    def show(self, render: Render) -> None:
        text = state_line(render)
        if self._told.get(render.id) == text:
            return
        self._told[render.id] = text
        place = f"{render.namespace}/" if self._many else ""
        print(f"{clock(datetime.now().astimezone())}  {place}{render.short_ref}  {text}", file=self._out, flush=True)


class _Bars:
    """One bar for each render."""

    _STYLES = {
        Phase.SUCCEEDED: "green",
        Phase.FAILED: "red",
        Phase.DEAD_LETTERED: "red",
        Phase.HELD: "yellow",
        Phase.RETRYING: "yellow",
    }

    def __init__(self, progress: Any, renders: Sequence[Render]) -> None:
        self._progress = progress
        self._tasks = {one.id: progress.add_task(one.short_ref, total=100, state="") for one in renders}

    def show(self, render: Render) -> None:
        from rich.markup import escape

        style = self._STYLES.get(render.phase, "default")
        state = escape(state_line(render, percent=False))
        task = self._tasks[render.id]
        self._progress.update(task, completed=render.progress, state=f"[{style}]{state}[/]")
        if render.is_over:
            self._progress.stop_task(task)


def state_line(render: Render, *, percent: bool = True) -> str:
    """Phase, progress, and for a wait its reason and place."""
    parts = ["deleted" if render.deleted else phase_word(render)]
    if percent:
        parts.append(f"{render.progress} %")
    if render.reason:
        parts.append(render.reason)
    if render.position is not None and not render.phase.is_final:
        parts.append(f"number {render.position} in the line")
    if render.phase.is_final and render.phase is not Phase.SUCCEEDED and render.message:
        parts.append(render.message)
    return "  ".join(parts)
