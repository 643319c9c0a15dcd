import pytest

from renderfleet_bench.stats import eta_errors, quantile, ratio_of_medians


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        pytest.param([3.0, 1.0, 2.0], 0.5, 2.0, id="the middle of an odd number"),
        pytest.param([1.0, 2.0, 3.0, 4.0], 0.5, 2.5, id="between the two in the middle"),
        pytest.param([5.0], 0.99, 5.0, id="the only one"),
        pytest.param([0.0, 10.0], 0.99, 9.9, id="near the upper edge"),
    ],
)
def test_quantile(values, share, expected):
    assert quantile(values, share) == pytest.approx(expected)


def test_no_quantile_out_of_nothing():
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_ratio_is_of_the_medians_and_shows_how_far_single_pairs_lie_apart():
    ratio = ratio_of_medians(ours=[30.0, 28.0, 10.0], bare=[40.0, 35.0, 50.0])

    assert (ratio.value, ratio.lowest_pair, ratio.highest_pair, ratio.pairs) == (0.7, 0.2, 0.8, 3)


def test_one_bare_round_more_is_still_an_alternation():
    assert ratio_of_medians(ours=[30.0], bare=[40.0, 60.0]).value == 0.6


@pytest.mark.parametrize(("ours", "bare"), [([], [1.0]), ([1.0], []), ([1.0], [1.0, 1.0, 1.0])])
def test_what_is_no_alternation_is_refused(ours, bare):
    with pytest.raises(ValueError, match="not an alternation"):
        ratio_of_medians(ours, bare)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        pytest.param([("a", 100.0, 12.0)], [0.2], id="twelve seconds said, ten waited"),
        pytest.param([("a", 109.8, 1.0)], [0.8], id="a short wait counts as one second"),
        pytest.param([("a", 111.0, 5.0)], [], id="said after the start"),
        pytest.param([("never", 100.0, 5.0)], [], id="never started"),
    ],
)
def test_eta_errors(predicted, expected):
    assert eta_errors(predicted, {"a": 110.0}) == pytest.approx(expected)
