"""Parts of a sweep: together they are the whole, and each keeps what it found."""

from pathlib import Path

import pytest

from renderfleet_faults.parts import Kept, Part


def test_the_parts_are_the_whole() -> None:
    points = list(range(11))

    taken = [Part(number, 3).among(points) for number in (1, 2, 3)]

    assert sorted(one for part in taken for one in part) == points
    assert Part().among(points) == points


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "1/0", "a/b", "-1/3"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(ValueError, match="is no part"):
        Part.read(text)


def test_what_was_found_is_put_together(tmp_path: Path) -> None:
    kept = Kept("money", tmp_path / "faults")
    kept.add(Part(1, 2), [{"subject": "m0001"}], 10)
    kept.add(Part(2, 2), [{"subject": "m0002"}], 20)
    kept.add(Part(2, 2), [{"subject": "m0003"}], 30)

    assert kept.all_of(2) == ([Part(1, 2), Part(2, 2)], [{"subject": "m0001"}, {"subject": "m0003"}], 40)


def test_another_division_is_another_sweep(tmp_path: Path) -> None:
    kept = Kept("money", tmp_path)
    kept.add(Part(1, 2), [{"subject": "m0001"}], 10)
    kept.add(Part(2, 3), [{"subject": "m0002"}], 10)

    assert kept.all_of(2) == ([], [], 0)
    assert kept.all_of(3) == ([Part(2, 3)], [{"subject": "m0002"}], 10)
