"""Traps spring once, at their step, for their subject."""

import pytest

from renderfleet_faults.traps import WRITES, Fault, Point, TrapBook, lines_of


def test_a_trap_springs_at_its_step_only() -> None:
    book = TrapBook()
    trap = book.set("c0001", Point(WRITES, 2, Fault.DIE_BEFORE))

    sprung = [book.step("c0001", WRITES, f"write {number}") for number in (1, 2, 3)]

    assert sprung == [None, trap, None]
    assert (trap.sprung, trap.hit) == (True, "write 2")


def test_steps_of_others_do_not_count() -> None:
    book = TrapBook()
    trap = book.set("c0001", Point(WRITES, 1, Fault.DIE_AFTER))

    assert book.step("c0002", WRITES, "another's write") is None
    assert book.step("c0001", lines_of("jobs"), "a line") is None
    assert not trap.sprung


def test_steps_are_counted_without_traps() -> None:
    book = TrapBook()
    for _ in range(3):
        book.step("c0001", WRITES, "")
    book.step("c0001", lines_of("jobs"), "")

    assert book.counts("c0001") == {WRITES: 3, "lines of jobs": 1}
    assert book.counts("c0002") == {}


def test_two_traps_at_one_step_are_refused() -> None:
    book = TrapBook()
    book.set("c0001", Point(WRITES, 1, Fault.DIE_BEFORE))

    with pytest.raises(ValueError, match="already"):
        book.set("c0001", Point(WRITES, 1, Fault.DIE_AFTER))
