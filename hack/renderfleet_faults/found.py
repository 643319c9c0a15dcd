"""What the crash suite found, kept below out/faults/crash in a file per story.

So stories may be tried in several runs and side by side; the table is about all that are there.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from renderfleet_faults.oracle import Golden, Verdict
from renderfleet_faults.parts import FOLDER
from renderfleet_faults.report import crash_table
from renderfleet_faults.scenarios import SCENARIOS


class Found:
    """See the module."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder

    def keep(self, golden: Golden, verdicts: Sequence[Verdict], story: str, told: str) -> None:
        """Keep what came of one story, in place of what came of it before."""
        file = self._file(story)
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = {"golden": asdict(golden), "verdicts": [asdict(one) for one in verdicts], "told": told}
        # Others read the folder at any time.
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(kept, indent=1))
        draft.replace(file)

    def forget(self, story: str) -> None:
        """What came of it before is not to be taken for what comes of it now."""
        self._file(story).unlink(missing_ok=True)

    def told(self, story: str) -> str | None:
        """What its run said in words; None when there is nothing of it."""
        file = self._file(story)
        return str(json.loads(file.read_text())["told"]) if file.exists() else None

    def table(self) -> str:
        """Kinds x points x verdict of all stories that are there; also written for people."""
        goldens: dict[str, Golden] = {}
        verdicts: list[Verdict] = []
        for scenario in SCENARIOS:
            file = self._file(scenario.name)
            if file.exists():
                kept = json.loads(file.read_text())
                goldens[scenario.name] = Golden(**kept["golden"])
                verdicts += [Verdict.read(one) for one in kept["verdicts"]]
        text = crash_table(goldens, verdicts)
        (self._folder / "crash.txt").write_text(text + "\n")
        return text

    def _file(self, story: str) -> Path:
        slug = "-".join(story.lower().replace(",", "").split())
        return self._folder / "crash" / f"{slug}.json"
