"""What was found is kept per story, and shown together."""

from pathlib import Path

from renderfleet_faults.found import Found
from renderfleet_faults.oracle import Golden, Verdict
from renderfleet_faults.traps import WRITES, Fault, Point

GOLDEN = Golden(state={}, sure={WRITES: 2}, most={WRITES: 2}, seconds=1.0)


def verdict(story: str, *problems: str) -> Verdict:
    return Verdict(story, Point(WRITES, 1, Fault.DIE_BEFORE), "PATCH voicejobs", problems, "c0001", 2.0)


def test_stories_of_several_runs_are_shown_together_in_their_order(tmp_path: Path) -> None:
    found = Found(tmp_path)
    found.keep(GOLDEN, [verdict("cancel")], "cancel", "1 point")
    found.keep(GOLDEN, [verdict("VoiceJob, prompt", "2 Jobs")], "VoiceJob, prompt", "1 bad point")

    shown = found.table().splitlines()

    assert [row.split("  ")[0] for row in shown[1:]] == ["VoiceJob, prompt", "cancel"]
    assert shown[1].endswith("BAD (1)")
    assert shown[2].endswith("good")
    assert (tmp_path / "crash.txt").read_text().splitlines() == shown
    assert found.told("VoiceJob, prompt") == "1 bad point"


def test_what_comes_of_a_story_now_replaces_what_came_of_it_before(tmp_path: Path) -> None:
    found = Found(tmp_path)
    found.keep(GOLDEN, [verdict("cancel", "2 Jobs")], "cancel", "bad")
    found.keep(GOLDEN, [verdict("cancel")], "cancel", "good")

    assert found.table().splitlines()[1].endswith("good")


def test_a_story_that_broke_off_is_not_shown_with_what_came_of_it_before(tmp_path: Path) -> None:
    found = Found(tmp_path)
    found.keep(GOLDEN, [verdict("cancel")], "cancel", "good")

    found.forget("cancel")

    assert found.told("cancel") is None
    assert len(found.table().splitlines()) == 1
