import pytest

from renderfleet_bench.ceiling import Requests

FOUND = Requests(
    count=400,
    whole={"POST": 0.003, "the fence": 0.004, "the end": 0.006, "the finalizer": 0.005},
    smallest={"POST": 0.003, "the fence": 0.003, "the end": 0.003, "the finalizer": 0.003},
)


def test_what_each_request_costs_and_all_of_them():
    assert FOUND.rows() == [
        ("POST", "3.0 ms, 3.0 ms"),
        ("the fence", "4.0 ms, 3.0 ms"),
        ("the end", "6.0 ms, 3.0 ms"),
        ("the finalizer", "5.0 ms, 3.0 ms"),
        ("all", "18.0 ms, 12.0 ms"),
    ]


def test_no_operator_is_faster_than_its_jobs_and_requests_allow():
    whole, smallest = FOUND.ceilings(bare_seconds=0.036, job_seconds=0.042)

    assert (whole, smallest) == (pytest.approx(0.036 / 0.060), pytest.approx(0.036 / 0.054))
