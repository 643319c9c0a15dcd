"""Stories side by side: each one's end is known, and none is lost."""

import asyncio
from pathlib import Path

import pytest

from renderfleet_faults import sidebyside
from renderfleet_faults.scenarios import SCENARIOS, Scenario

STORIES = [one for one in SCENARIOS if one.name in ("VoiceJob", "cancel", "VideoRender, script")]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for Python: notes which story it is given, and ends as its script says."""
    script = tmp_path / "python"
    monkeypatch.setattr(sidebyside.sys, "executable", str(script))
    return script


def plays(program: Path, script: str) -> None:
    program.write_text(f'#!/bin/sh\nstory="$5"\necho "$story" >> {program.parent}/played\n{script}\n')
    program.chmod(0o755)


async def run(stories: list[Scenario], at_a_time: int) -> dict[str, int]:
    return await sidebyside.side_by_side(stories, quick=False, at_a_time=at_a_time)


async def test_each_story_ends_with_its_own_code(program: Path) -> None:
    plays(program, '[ "$story" = cancel ] && exit 1; [ "$story" = VoiceJob ] && exit 2; exit 0')

    assert await run(STORIES, 2) == {"VoiceJob": 2, "cancel": 1, "VideoRender, script": 0}


async def test_the_longest_begins_first(program: Path) -> None:
    plays(program, "exit 0")

    await run(STORIES, 1)

    assert (program.parent / "played").read_text().splitlines() == ["VideoRender, script", "VoiceJob", "cancel"]


async def test_what_a_story_says_comes_through_with_its_name(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plays(program, "echo half way >&2")

    await run(STORIES[:1], 1)

    assert any(one.split() == ["VoiceJob", "half", "way"] for one in capfd.readouterr().err.splitlines())


async def test_stories_are_told_to_end_when_the_suite_is(program: Path) -> None:
    mark = program.parent / "ended"
    plays(
        program,
        f"trap 'echo ended > {mark}; exit 0' TERM\necho $$ > {program.parent}/pid\nwhile :; do sleep 0.05; done",
    )
    running = asyncio.create_task(run(STORIES[:1], 1))
    while not (program.parent / "pid").exists() or not (program.parent / "pid").read_text():
        await asyncio.sleep(0.02)

    running.cancel()
    await asyncio.wait({running})

    assert mark.exists()
    assert not Path(f"/proc/{int((program.parent / 'pid').read_text())}").exists()
