import os
import subprocess
import sys

import pytest

from renderfleet_bench.proc import TICKS_PER_SECOND, cost_of, cpu_seconds_of_tree, parse

STATUS = "Name:\tpython\nVmPeak:\t  900000 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\nThreads:\t3\n"


def test_reads_memory_in_mib_and_processor_time_in_seconds():
    # A program may call itself anything, brackets and spaces included.
    stat = f"42 (py) thon (x) S 1 42 42 0 -1 0 0 0 0 0 {3 * TICKS_PER_SECOND} {TICKS_PER_SECOND} 0 0 20 0 3 0 100 0 0"

    cost = parse(STATUS, stat)

    assert (cost.rss_mib, cost.peak_rss_mib, cost.cpu_seconds) == (100.0, 200.0, 4.0)


def test_a_living_process_has_a_cost():
    cost = cost_of(os.getpid())

    assert 1 < cost.rss_mib <= cost.peak_rss_mib
    assert cost.cpu_seconds > 0


def test_a_dead_process_has_none():
    with pytest.raises(FileNotFoundError):
        cost_of(2**22 + 1)


def test_a_child_that_has_ended_and_not_been_waited_for_still_has_used_time():
    with subprocess.Popen([sys.executable, "-c", "sum(range(2_000_000))"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert cpu_seconds_of_tree(child.pid) > 0
