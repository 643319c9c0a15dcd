"""Scripted faults: every row of the three error tables, the ways a connection misbehaves, and the gates."""

import concurrent.futures
import json
import time
from typing import Any

import httpx2
import pytest

from renderfleet_standin.did_api.errors import ROWS as DID_ROWS
from renderfleet_standin.elevenlabs_api.errors import ROWS as ELEVENLABS_ROWS
from renderfleet_standin.openai_api.errors import ROWS as OPENAI_ROWS
from renderfleet_standin.rows import Kind, Row

from .conftest import Files, Server

OPENAI = {"path": "/openai/v1/responses", "json": {"model": "gpt-6-luna", "input": "the harbour"}}
VOICE = "/elevenlabs/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM"
ELEVENLABS = {"path": VOICE, "json": {"text": "Welcome aboard."}}
HEADERS = {
    "openai": {"authorization": "Bearer sk-standin"},
    "elevenlabs": {"xi-api-key": "el-standin"},
    "did": {"authorization": "Basic did-user:did-pass"},
}


def call(server: Server, vendor: str, timeout: float = 20, **more: Any) -> httpx2.Response:
    """One good paid call of a vendor."""
    request = {"openai": OPENAI, "elevenlabs": ELEVENLABS}[vendor] | more
    with server.http(headers=HEADERS[vendor]) as client:
        client.timeout = timeout
        return client.post(str(request["path"]), json=request["json"])


def talk(server: Server, files: Files, **more: Any) -> httpx2.Response:
    body = {
        "source_url": f"{files.url}/face.png",
        "script": {"type": "audio", "audio_url": f"{files.url}/voice.mp3"},
        **more,
    }
    with server.did() as client:
        return client.post("/did/talks", json=body)


def error_rows(rows: dict[str, Row]) -> list[Row]:
    return [row for row in rows.values() if row.kind is Kind.ANSWER]


def ids(row: Row) -> str:
    return row.name


@pytest.mark.parametrize("row", error_rows(OPENAI_ROWS), ids=ids)
def test_every_row_of_openai(standin: Server, row: Row) -> None:
    standin.fault("openai", row.name, operation="responses", retry_after_seconds=7)
    answer = call(standin, "openai")

    assert answer.status_code == row.status
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert error["message"]
    assert answer.headers["x-request-id"]
    assert standin.bills() == []
    assert call(standin, "openai").status_code == 200, "a fault is used up"


@pytest.mark.parametrize("row", error_rows(ELEVENLABS_ROWS), ids=ids)
def test_every_row_of_elevenlabs(standin: Server, row: Row) -> None:
    standin.fault("elevenlabs", row.name)
    answer = call(standin, "elevenlabs")

    assert answer.status_code == row.status
    detail = answer.json()["detail"]
    if row.status == 422:
        assert detail[0]["loc"] == ["body", "text"]
    elif row.name.endswith("_legacy") or set(detail) == {"status", "message"}:
        assert detail["status"] and detail["message"]
    else:
        assert set(detail) == {"type", "code", "message", "status", "request_id", "param"}
        assert detail["request_id"] == answer.headers["x-trace-id"]
    assert "request-id" not in answer.headers
    assert standin.bills() == []


@pytest.mark.parametrize("row", error_rows(DID_ROWS), ids=ids)
def test_every_row_of_did(standin: Server, files: Files, row: Row) -> None:
    standin.fault("did", row.name, operation="talks.create")
    answer = talk(standin, files)

    assert answer.status_code == row.status
    body = answer.json()
    assert set(body) == ({"message"} if "gateway" in row.name else {"kind", "description", "details"})
    assert len(standin.bills()) == (1 if row.after_bill else 0)


def test_a_gateway_timeout_may_hide_a_talk_that_exists(standin: Server, files: Files) -> None:
    standin.fault("did", "504_gateway_timeout_after_bill", operation="talks.create")
    answer = talk(standin, files, user_data="job-7")
    with standin.did() as client:
        listed = client.get("/did/talks").json()["talks"]

    assert answer.json() == {"message": "Endpoint request timed out"}
    assert [one["user_data"] for one in listed] == ["job-7"]


def test_the_wait_stands_in_the_text_and_the_header(standin: Server) -> None:
    standin.fault("openai", "429_rate_limit", retry_after_seconds=12)
    both = call(standin, "openai")
    standin.fault("openai", "429_rate_limit_text_only", retry_after_seconds=0.45)
    text_only = call(standin, "openai")

    assert both.headers["retry-after"] == "12"
    assert "Please try again in 12s." in both.json()["error"]["message"]
    assert "retry-after" not in text_only.headers
    assert "Please try again in 450ms." in text_only.json()["error"]["message"]


def test_money_has_its_own_type_and_code(standin: Server) -> None:
    standin.fault("openai", "429_credit_balance_exhausted")
    error = call(standin, "openai").json()["error"]

    assert (error["type"], error["code"]) == ("insufficient_quota", "credit_balance_exhausted")


def test_a_moderation_verdict_names_stage_and_category(standin: Server) -> None:
    standin.fault("openai", "400_moderation_blocked")
    answer = call(standin, "openai")

    error = answer.json()["error"]
    assert error["moderation_details"] == {"moderation_stage": "output", "categories": ["violence"]}
    assert answer.headers["x-request-id"] in error["message"]


@pytest.mark.parametrize(
    ("fault", "billed"), [("reset_before_send", 0), ("reset_after_bill", 1), ("hang", 0), ("hang_after_bill", 1)]
)
@pytest.mark.parametrize("vendor", ["openai", "elevenlabs"])
def test_no_answer_at_all(standin: Server, vendor: str, fault: str, billed: int) -> None:
    standin.fault(vendor, fault)
    expected = httpx2.ReadError if fault.startswith("reset") else httpx2.ReadTimeout

    # A server that resets before it has read everything may fail the write; here the request is small and read whole.
    with pytest.raises((expected, httpx2.RemoteProtocolError) if fault.startswith("reset") else expected):
        call(standin, vendor, timeout=1 if fault.startswith("hang") else 20)
    assert len(standin.bills()) == billed
    assert standin.control("calls")["calls"][-1]["status"] is None
    assert call(standin, vendor).status_code == 200


def test_a_talk_lost_on_the_way_back_is_in_the_list(standin: Server, files: Files) -> None:
    standin.fault("did", "reset_after_bill", operation="talks.create")
    with pytest.raises(httpx2.TransportError):
        talk(standin, files, user_data="job-9")
    with standin.did() as client:
        listed = client.get("/did/talks").json()["talks"]

    assert [(one["user_data"]) for one in listed] == ["job-9"]
    assert len(standin.bills()) == 1


def test_a_speech_lost_on_the_way_back_is_in_the_history(standin: Server) -> None:
    standin.fault("elevenlabs", "reset_after_bill")
    with pytest.raises(httpx2.TransportError):
        call(standin, "elevenlabs")
    with standin.http(headers=HEADERS["elevenlabs"]) as client:
        listed = client.get("/elevenlabs/v1/history").json()["history"]

    assert [one["text"] for one in listed] == ["Welcome aboard."]


@pytest.mark.parametrize("vendor", ["openai", "elevenlabs"])
def test_a_cut_answer_is_noticed_by_its_length(standin: Server, vendor: str) -> None:
    standin.fault(vendor, "truncate", bytes=100)

    with pytest.raises(httpx2.RemoteProtocolError):
        call(standin, vendor)
    assert len(standin.bills()) == 1


def test_a_cut_stream_without_a_length(standin: Server) -> None:
    standin.fault("elevenlabs", "truncate", bytes=100)

    with pytest.raises(httpx2.RemoteProtocolError):
        call(standin, "elevenlabs", path=f"{VOICE}/stream")


def test_a_dripping_answer_is_whole_but_slow(standin: Server) -> None:
    whole = call(standin, "openai").content
    standin.fault("openai", "slow_drip", chunk_bytes=len(whole) // 5, interval_ms=60)
    started = time.monotonic()
    dripped = call(standin, "openai").json()

    assert time.monotonic() - started > 0.25
    assert dripped["status"] == "completed"


def test_half_an_answer_announced_as_whole(standin: Server) -> None:
    standin.fault("openai", "bad_json")
    answer = call(standin, "openai")

    assert (answer.status_code, int(answer.headers["content-length"])) == (200, len(answer.content))
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_body_far_too_large(standin: Server) -> None:
    standin.fault("openai", "huge_body", bytes=3_000_000)
    answer = call(standin, "openai")

    assert answer.status_code == 200
    assert len(answer.content) > 2_900_000
    assert "content-length" not in answer.headers


@pytest.mark.parametrize(
    ("fault", "status", "billed"),
    [
        ("html_403", 403, 0),
        ("html_429", 429, 0),
        ("html_502", 502, 0),
        ("html_520", 520, 0),
        ("html_523", 523, 0),
        ("html_504_after_bill", 504, 1),
        ("html_524_after_bill", 524, 1),
    ],
)
def test_pages_of_the_edge(standin: Server, fault: str, status: int, billed: int) -> None:
    standin.fault("openai", fault)
    answer = call(standin, "openai")

    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert "x-request-id" not in answer.headers, "the edge never asked the vendor"
    assert len(standin.bills()) == billed


def test_results_can_break_too(standin: Server, files: Files) -> None:
    url = standin.ended_talk(talk(standin, files).json()["id"])["result_url"]
    standin.fault("did", "truncate", operation="results")
    with pytest.raises(httpx2.RemoteProtocolError):
        standin.fetch(url)

    assert standin.fetch(url).status_code == 200


def test_any_error_can_come_after_billing(standin: Server) -> None:
    standin.fault("openai", "500_server_error", after_bill=True)

    assert call(standin, "openai").status_code == 500
    assert len(standin.bills()) == 1


def test_a_rule_hits_what_it_names_as_often_as_it_says(standin: Server) -> None:
    match = {"prompt_contains": "harbour"}
    standin.fault("openai", "500_server_error", operation="responses", times=2, skip=1, match=match)
    other = {"model": "gpt-6-luna", "input": "the bakery"}

    seen = [call(standin, "openai").status_code for _ in range(2)]
    seen.append(call(standin, "openai", json=other).status_code)
    seen += [call(standin, "openai").status_code for _ in range(2)]

    assert seen == [200, 500, 200, 500, 200]
    rule = standin.control("faults")["rules"][0]
    assert (rule["passed"], rule["hit"]) == (1, 2)


def test_a_rule_without_end_lasts_until_deleted(standin: Server) -> None:
    standin.fault("elevenlabs", "503_maintenance", times=None)
    seen = [call(standin, "elevenlabs").status_code for _ in range(3)]
    with standin.http() as client:
        assert client.delete("/_standin/faults").json() == {"removed": 1}

    assert [*seen, call(standin, "elevenlabs").status_code] == [503, 503, 503, 200]


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ({"vendor": "openai", "fault": "429_rate_limt"}, "429_rate_limit"),
        ({"vendor": "did", "operation": "talk.create", "fault": "hang"}, "talks.create"),
        ({"vendor": "acme", "fault": "hang"}, "openai"),
        ({"vendor": "openai", "fault": "hang", "time": 2}, "time"),
    ],
)
def test_a_misspelt_rule_is_refused_with_a_hint(standin: Server, rule: dict[str, Any], hint: str) -> None:
    with standin.http() as client:
        answer = client.post("/_standin/faults", json=rule)

    assert answer.status_code == 422
    assert hint in answer.text
    assert standin.control("faults")["rules"] == []


def test_base_latency_slows_an_operation(standin: Server) -> None:
    standin.control("latency", {"vendor": "openai", "operation": "responses", "ms": 300})
    started = time.monotonic()
    call(standin, "openai")
    slow = time.monotonic() - started
    standin.fault("openai", "latency_ms", latency_ms=300)
    started = time.monotonic()
    assert call(standin, "openai").status_code == 200

    assert slow >= 0.3
    assert time.monotonic() - started >= 0.6


@pytest.mark.parametrize(("point", "billed"), [("before_bill", 0), ("after_bill", 1)])
def test_a_call_stands_at_a_gate(standin: Server, point: str, billed: int) -> None:
    gate = standin.control("hold", {"vendor": "openai", "operation": "responses", "point": point})
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        held = pool.submit(call, standin, "openai")
        while not (waiting := standin.control("hold")[0]["waiting"]):
            time.sleep(0.02)
        bills = len(standin.bills())
        assert call(standin, "elevenlabs").status_code == 200, "others pass"
        released = standin.control("release", {"id": gate["id"]})["released"]
        answer = held.result()

    assert bills == billed
    assert released == waiting == [answer.headers["x-request-id"]]
    assert answer.status_code == 200
    assert standin.control("hold") == []


def test_a_caller_killed_at_the_gate_has_paid_once(standin: Server) -> None:
    standin.control("hold", {"vendor": "openai", "operation": "responses", "times": 1})
    with pytest.raises(httpx2.ReadTimeout):
        call(standin, "openai", timeout=1)
    call(standin, "openai")
    standin.control("release", {})

    bills = standin.bills()
    assert len(bills) == 2
    assert len({bill["prompt_sha256"] for bill in bills}) == 1
    assert [row["billed"] for row in standin.control("ledger")["repeated"]] == [2]
