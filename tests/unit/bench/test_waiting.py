import asyncio
from collections import Counter

import pytest

from renderfleet_bench.restart import Restarted
from renderfleet_bench.throughput import Alternation, Round, add
from renderfleet_bench.waiting import EtaFound, FairnessFound, Lives


def seen(name: str, **status: object) -> dict[str, object]:
    return {"metadata": {"name": name}, "status": status}


def round_of(who: str, per_second: float, count: int = 500) -> Round:
    return Round(
        who=who, count=count, per_second=per_second, seconds=count / per_second, p50_seconds=1.0, p99_seconds=2.0
    )


def test_a_life_is_what_was_told_then_the_start_then_the_end():
    lives = Lives()

    lives.see("ADDED", seen("a"))
    lives.see("MODIFIED", seen("a", phase="Queued", queue={"position": 3, "etaSeconds": 6}))
    lives.see("MODIFIED", seen("a", phase="Queued", queue={"position": 2}))
    lives.see("MODIFIED", seen("a", phase="Running", startedAt="2026-11-24T07:00:00Z"))
    lives.see("MODIFIED", seen("a", phase="Succeeded", startedAt="2026-11-24T07:00:00Z"))
    lives.see("DELETED", seen("a", phase="Succeeded"))

    assert [(name, eta) for name, _, eta in lives.predictions] == [("a", 6.0)]
    assert list(lives.started) == list(lives.ended) == ["a"]


def test_only_the_first_sight_of_a_start_counts():
    lives = Lives()
    lives.see("MODIFIED", seen("a", phase="Running", startedAt="x"))
    first = lives.started["a"]

    lives.see("MODIFIED", seen("a", phase="Running", startedAt="x", progress=50))

    assert lives.started["a"] == first


def test_service_time_is_from_start_to_end():
    lives = Lives(started={"a": 10.0, "b": 10.0, "c": 12.0}, ended={"a": 12.0, "b": 14.0})

    assert lives.service_seconds() == 3.0


async def test_waiting_ends_as_soon_as_enough_have_started():
    lives = Lives()
    waiting = asyncio.create_task(lives.until(None, started=2))  # type: ignore[arg-type]  # asked only when nothing moves
    await asyncio.sleep(0)
    lives.see("MODIFIED", seen("a", startedAt="x"))
    await asyncio.sleep(0)
    assert not waiting.done()

    lives.see("MODIFIED", seen("b", startedAt="x"))

    await asyncio.wait_for(waiting, 1)


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        pytest.param([0.5, 2.5, 1.0], 0.75, id="the longest wait, less what it takes alone, in service times"),
        pytest.param([0.4], 0.0, id="faster than alone is no debt"),
    ],
)
def test_fairness(waits, expected):
    found = FairnessFound(dump=5000, alone_seconds=0.5, waits_seconds=waits, service_seconds=8 / 3)

    assert found.worst == pytest.approx(expected)
    assert "behind 5000" in found.note()


def test_ratios_with_and_without_the_archive():
    found = Alternation(
        500,
        bare=[round_of("bare Jobs", 50.0), round_of("bare Jobs", 50.0)],
        ours=[round_of("RenderFleet", 40.0), round_of("RenderFleet", 40.0)],
        settle_seconds=[12.5, 12.5],
    )

    assert found.ratio.value == 0.8
    assert found.ratio_settled == 0.4
    assert found.note() == "40.0/s against 50.0/s, 2 pairs: 0.80 to 0.80"


def test_notes_say_how_much_was_measured():
    restarted = Restarted(
        finished=10_000,
        live=500,
        stop_seconds=0.1,
        ready_seconds=3.0,
        first_render_seconds=1.2,
        writes_finished=0,
        writes=Counter({"create jobs": 2}),
        rss_mib=100.0,
        peak_rss_mib=120.0,
        cpu_seconds=2.0,
    )

    assert "10000 finished, 500 live" in restarted.note()
    assert "2 writes in all" in restarted.note()
    assert "2 of 3 renders" in EtaFound([0.1, 0.2], renders=3, told=2, said_seconds_p50=4.0).note()


def test_processor_time_is_compared_over_all_processes():
    found = Alternation(
        10, bare=[round_of("bare Jobs", 50.0, count=10)], ours=[round_of("RenderFleet", 40.0, count=10)]
    )
    for before, after, total in (
        ({"api": 1.0}, {"api": 1.3}, found.cpu_bare),
        ({"api": 1.3, "operator": 2.0}, {"api": 1.7, "operator": 2.2}, found.cpu_ours),
    ):
        add(total, before, after)

    assert found.ratio_by_cpu == pytest.approx(0.5)
    assert found.cpu_rows() == [
        ("all", "30.0 ms, 60.0 ms"),
        ("api", "30.0 ms, 40.0 ms"),
        ("operator", "0.0 ms, 20.0 ms"),
    ]


def test_the_runners_jobs_alone_stand_between_bare_jobs_and_renders():
    found = Alternation(
        10,
        bare=[round_of("bare Jobs", 50.0, count=10)],
        same=[round_of("their Jobs", 45.0, count=10)],
        ours=[round_of("RenderFleet", 40.0, count=10)],
        cpu_bare={"api": 0.3},
        cpu_same={"api": 0.4},
        cpu_ours={"api": 0.6},
    )

    assert found.same_seconds == pytest.approx(0.04)
    assert found.cpu_rows()[0] == ("api", "30.0 ms, 40.0 ms, 60.0 ms")


def test_a_bare_round_without_its_neighbour_does_not_lower_the_processor_time_per_job():
    found = Alternation(
        10,
        bare=[round_of("bare Jobs", 50.0, count=10), round_of("bare Jobs", 50.0, count=10)],
        ours=[round_of("RenderFleet", 40.0, count=10)],
        cpu_bare={"api": 0.6},
        cpu_ours={"api": 0.6},
    )

    assert found.ratio_by_cpu == pytest.approx(0.5)
