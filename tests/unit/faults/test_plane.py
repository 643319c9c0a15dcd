"""Which planes and folders of earlier runs may be removed."""

import os

from renderfleet_faults.plane import left_behind


def test_only_what_a_dead_run_of_ours_left_is_removed() -> None:
    dead = "faults-crash-999999999"
    names = [dead, f"faults-money-{os.getpid()}", "faults-crash", "bench", "renderfleet-999999999"]

    assert left_behind(names) == [dead]
