"""Traps spring once, at their step, for their subject."""

from renderfleet_faults.traps import WRITES, Fault, Point, TrapBook, lines_of


def test_a_trap_springs_at_its_step_only() -> None:
    book = TrapBook()
    trap = book.begin("c0001", Point(WRITES, 2, Fault.DIE_BEFORE))
    assert trap

    sprung = [book.step("c0001", WRITES, f"write {number}") for number in (1, 2, 3)]

    assert sprung == [None, trap, None]
    assert (trap.sprung, trap.hit) == (True, "write 2")


def test_steps_of_others_do_not_count() -> None:
    book = TrapBook()
    trap = book.begin("c0001", Point(WRITES, 1, Fault.DIE_AFTER))
    assert trap

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


def test_a_story_is_counted_from_its_beginning() -> None:
    book = TrapBook()
    book.step("c0001", WRITES, "its tenant")
    trap = book.begin("c0001", Point(WRITES, 1, Fault.DIE_BEFORE))

    assert book.counts("c0001") == {}
    assert book.step("c0001", WRITES, "its first write") is trap
