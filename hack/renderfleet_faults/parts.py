"""What a suite found, kept below out/faults: whole, or in parts that were run one after the other.

`--part 2/3` runs every third point from the second on. Each part keeps its accounts in a file of its own, and what is
shown at the end is about all parts of that division that are there. A part of another division is of another sweep:
it is removed.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from renderfleet_cluster.places import REPOSITORY

T = TypeVar("T")

FOLDER = REPOSITORY / "out" / "faults"


@dataclass(frozen=True)
class Part:
    """The `number`-th of `of` parts; 1 is the first."""

    number: int = 1
    of: int = 1

    @classmethod
    def read(cls, text: str) -> "Part":
        """From `2/3`. Raises ValueError."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"{text!r} is no part: write 1/3, 2/3 or 3/3")
        return cls(int(found[1]), int(found[2]))

    def among(self, points: Sequence[T]) -> list[T]:
        """The points of this part, spread over all."""
        return list(points[self.number - 1 :: self.of])

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class Kept:
    """The parts of one suite's sweep."""

    def __init__(self, suite: str, folder: Path = FOLDER) -> None:
        self._suite = suite
        self._folder = folder

    def add(self, part: Part, found: Sequence[dict[str, Any]], seconds: float) -> None:
        """Keep what one part found, in place of what it found before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for file in self._folder.glob(f"{self._suite}-*-of-*.json"):
            if not file.name.endswith(f"-of-{part.of}.json"):
                file.unlink()
        self._file(part).write_text(json.dumps({"seconds": round(seconds, 1), "found": list(found)}, indent=1))

    def all_of(self, division: int) -> tuple[list[Part], list[dict[str, Any]], float]:
        """(the parts that are there, all that they found, their seconds together)."""
        parts = [Part(number, division) for number in range(1, division + 1)]
        there = [part for part in parts if self._file(part).exists()]
        kept = [json.loads(self._file(part).read_text()) for part in there]
        return there, [one for part in kept for one in part["found"]], sum(part["seconds"] for part in kept)

    def show(self, text: str) -> Path:
        """Keep the tables as they were shown, for people; the file they are in."""
        file = self._folder / f"{self._suite}.txt"
        file.write_text(text.rstrip() + "\n")
        return file

    def _file(self, part: Part) -> Path:
        return self._folder / f"{self._suite}-{part.number}-of-{part.of}.json"
