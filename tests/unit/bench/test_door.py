import itertools
import json

import pytest

from renderfleet_bench.door import Found, Heard, Pairs, api_submits, bare_posts, changes, ended
from renderfleet_bench.wire import Target, Volley
from renderfleet_crds.avatar_render import AvatarRenderStatus
from renderfleet_crds.phases import Phase

TARGET = Target("127.0.0.1", 8080)


def volleys(*counts: int) -> list[Volley]:
    return [Volley(count, seconds=2.0) for count in counts]


PAIRS = Pairs(
    ours=volleys(100, 120, 150),
    bare=volleys(200, 240, 200),
    cpu_ours={"api": 0.74, "bench": 0.0},
    cpu_bare={"api": 0.0, "kube-apiserver": 0.64},
)


def test_the_ratio_is_that_of_the_medians_with_the_spread_of_the_pairs():
    assert PAIRS.ratio.value == 120 / 200
    assert PAIRS.note() == "60/s against 100/s, 3 pairs: 0.50 to 0.75"


def test_processor_time_is_told_per_request_the_dearest_first():
    pairs = Pairs(
        ours=volleys(100), bare=volleys(200),
        cpu_ours={"api": 0.2, "kube-apiserver": 0.3, "kwok": 0.0001},
        cpu_bare={"api": 0.0, "kube-apiserver": 0.6, "kwok": 0.0},
    )  # fmt: skip

    assert pairs.cpu_rows() == [
        ("all", "3.00 ms, 5.00 ms"),
        ("kube-apiserver", "3.00 ms, 3.00 ms"),
        ("api", "0.00 ms, 2.00 ms"),
    ]


def test_p99_is_over_all_changes_and_listeners():
    quick, slow = [0.1] * 99, [0.1] * 98 + [2.0]
    heard = Heard(99, [quick, slow], done=[0.3, 0.4])

    assert heard.p99_seconds == pytest.approx(0.1)
    assert Heard(99, [slow[-3:]], done=[0.3]).p99_seconds > 1
    assert heard.note() == (
        "2 changes to 99 listeners: p50 0.10 s, worst 2.00 s; the whole job at its end: worst 0.40 s"
    )


def test_everything_measured_is_in_the_file():
    found = Found(PAIRS, PAIRS, Heard(1, [[0.1]], [0.2]), peak_rss_mib=180.0, rss_before_streams_mib=120.0)

    raw = json.loads(json.dumps(found.raw()))

    assert raw["submits"]["ours"][0] == {"count": 100, "seconds": 2.0, "asked_again": 0}
    assert raw["heard"] == {"delays": [[0.1]], "done": [0.2]}
    assert found.rss_note() == "120 MiB before the 1 listeners came"


def test_both_doors_are_asked_for_the_same_render():
    bare = json.loads(next(bare_posts(TARGET)).partition(b"\r\n\r\n")[2])
    submits = api_submits(TARGET)
    first, second = next(submits), next(submits)

    assert json.loads(first.partition(b"\r\n\r\n")[2]) == bare["spec"]
    assert first != second, "each has an Idempotency-Key of its own"


def test_every_change_is_one_of_phase_and_the_last_is_the_end():
    said = [AvatarRenderStatus.model_validate(one).phase for one in changes(10)]

    assert len(said) == 10
    assert all(one is not other for one, other in itertools.pairwise(said))
    assert not any(one.is_final for one in said[:-1])
    assert said[-1] is Phase.SUCCEEDED
    assert [one["name"] for one in ended()["outputs"]] == ["image-1", "thumbnail-1"]
