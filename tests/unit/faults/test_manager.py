"""An operator that ends by itself is started again; one that was killed waits for who killed it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from renderfleet_faults import manager
from renderfleet_faults.backends import Process
from renderfleet_faults.manager import Manager
from renderfleet_faults.nursery import Nursling

NOBODY: Any = None


class Kept(Manager):
    """Its program is only a number."""

    def begin(self, pid: int) -> Nursling:
        self.folder.joinpath("log").write_text("last words")
        child = Nursling(pid)
        self._process = Process(f"operator-{pid}", child, self.folder / "log")
        return child

    async def _start(self) -> None:
        self._is_to_live = True
        self.start_seconds.append(0.0)
        self.begin(2)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(manager, "_NOTICE_SECONDS", 0.001)
    return Kept(tmp_path, NOBODY, NOBODY, NOBODY, "")


async def keep_for_a_while(kept: Kept) -> None:
    keeping = asyncio.create_task(kept.keep())
    await asyncio.sleep(0.05)
    keeping.cancel()


@pytest.mark.parametrize(("code", "lost_leases", "falls"), [(3, 1, 0), (1, 0, 1)])
async def test_what_ends_by_itself_is_started_again_and_told(
    kept: Kept, code: int, lost_leases: int, falls: int
) -> None:
    await kept.start()
    kept.begin(1).end(code)

    await keep_for_a_while(kept)

    assert len(kept.start_seconds) == 2
    assert (kept.lost_leases, len(kept.falls)) == (lost_leases, falls)


async def test_what_was_killed_stays_dead_until_it_is_started(kept: Kept) -> None:
    await kept.start()
    kept.begin(1).end(-9)
    await kept.kill()

    await keep_for_a_while(kept)

    assert len(kept.start_seconds) == 1
    assert kept.falls == []
