import pytest

from renderfleet_bench.plan import FULL, QUICK, another_round_fits


@pytest.mark.parametrize(
    ("elapsed", "round_seconds", "rest", "expected"),
    [
        pytest.param(100, 200, 300, True, id="plenty of time"),
        pytest.param(600, 200, 300, False, id="would leave too little for the rest"),
        pytest.param(450, 200, 300, True, id="just enough, a tenth to spare"),
    ],
)
def test_another_round(elapsed, round_seconds, rest, expected):
    fits = another_round_fits(
        elapsed_seconds=elapsed, limit_seconds=1000, round_seconds=round_seconds, rest_seconds=rest
    )

    assert fits is expected


def test_the_short_form_is_the_long_one_with_less_of_everything():
    assert QUICK.limit_seconds < FULL.limit_seconds
    assert QUICK.pairs_500 >= 3, "a median of fewer rounds is no median"
