"""What was billed: kept across restarts, folded from its lines, shown to people."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from renderfleet_standin.ledger import Ledger
from renderfleet_standin.limits import Window
from renderfleet_standin.settings import StandinSettings

from .conftest import Files, Server


def bill(ledger: Ledger, **more: Any) -> str:
    facts = {"vendor": "did", "operation": "talks.create", "request_id": "r", "unit": "credits", "units": 2, **more}
    return ledger.bill(**facts).id


def test_a_ledger_is_the_fold_of_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    ledger = Ledger(file)
    kept, returned = bill(ledger), bill(ledger, user_data="job-1")
    ledger.amend(kept, units=5)
    ledger.amend(returned, refunded=True)

    for seen in (ledger, Ledger(file)):
        assert [(entry.id, entry.units, entry.refunded) for entry in seen] == [(kept, 5, False), (returned, 2, True)]
        assert seen.used("did", "credits") == 5
        assert seen.summary()["totals"] == {"did/talks.create": {"billed": 2, "refunded": 1, "units": 5}}


def test_a_clear_starts_anew_and_keeps_the_past_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    ledger = Ledger(file)
    bill(ledger)
    ledger.clear()
    bill(ledger)

    assert len(list(Ledger(file))) == 1
    assert len(file.read_text().splitlines()) == 3


def test_half_a_line_of_a_killed_process_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    bill(Ledger(file))
    with file.open("a") as lines:
        lines.write('{"event":"billed","id":"bi')

    ledger = Ledger(file)
    bill(ledger)
    assert [entry.id for entry in ledger] == ["bill-1", "bill-2"]
    assert [entry.id for entry in Ledger(file)] == ["bill-1", "bill-2"], "the next line is not glued to the half one"


def test_what_was_billed_twice_is_named() -> None:
    ledger = Ledger(None)
    for prompt in ("a", "b", "a"):
        bill(ledger, prompt_sha256=prompt)

    assert ledger.summary()["repeated"] == [
        {"vendor": "did", "operation": "talks.create", "correlation": "a", "billed": 2}
    ]


def test_windows_keep_their_limit() -> None:
    now = [100.0]
    window = Window(5, 60, clock=lambda: now[0])
    window.take(3)
    now[0] = 120
    window.take(2)

    assert (window.used, window.wait_for(0)) == (5, 0.0)
    assert window.wait_for(2) == pytest.approx(40)
    assert window.wait_for(4) == pytest.approx(60)
    assert window.wait_for(6) == 60
    now[0] = 160.5
    assert window.wait_for(2) == 0.0


def test_no_limit_never_waits() -> None:
    assert Window(0, 60).wait_for(10_000) == 0.0


@pytest.fixture
def process(tmp_path: Path) -> Any:
    """A stand-in as a process of its own, on a port the system chooses, with its data in a folder."""
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[str, subprocess.Popen[str]]:
        command = [sys.executable, "-m", "renderfleet_standin", "--port", "0", "--relaxed", "--talk-seconds", "2"]
        running = subprocess.Popen(
            [*command, "--data", str(tmp_path / "data")], stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        started.append(running)
        assert running.stderr is not None
        for line in running.stderr:
            if "running on" in line:
                return line.split("running on ")[1].split()[0], running
        raise AssertionError("it did not start")

    yield start
    for one in started:
        one.kill()
        one.wait()
        assert one.stderr is not None
        one.stderr.close()


def test_bills_and_talks_survive_a_kill(process: Callable[[], tuple[str, subprocess.Popen[str]]], files: Files) -> None:
    """SIGKILL in the middle of a talk: after the restart it is still billed once, and it gets done."""
    url, running = process()
    server = Server(url)
    script = {"type": "audio", "audio_url": f"{files.url}/voice.mp3"}
    with server.did() as client:
        body = {"source_url": f"{files.url}/face.png", "script": script, "user_data": "job-1"}
        talk_id = client.post("/did/talks", json=body).json()["id"]
    running.kill()
    running.wait()
    again = Server(process()[0])
    talk = again.ended_talk(talk_id)

    assert talk["status"] == "done"
    assert [(entry["user_data"], entry["resource"]) for entry in again.bills()] == [("job-1", talk_id)]


def test_an_entry_names_the_call_it_paid(standin: Server) -> None:
    with standin.http(headers={"authorization": "Bearer sk-standin", "x-stainless-retry-count": "0"}) as client:
        answer = client.post("/openai/v1/responses", json={"model": "gpt-6-luna", "input": "the harbour"})
    entry = standin.bills()[0]

    assert entry["vendor"] == "openai"
    assert entry["operation"] == "responses"
    assert entry["request_id"] == answer.headers["x-request-id"]
    assert entry["resource"] == answer.json()["id"]
    assert (entry["unit"], entry["units"]) == ("output_tokens", answer.json()["usage"]["output_tokens"])
    assert entry["prompt_sha256"] == hashlib.sha256(b"the harbour").hexdigest()
    assert entry["stainless_retry_count"] == "0"
    assert not entry["refunded"]


def test_the_page_shows_bills_and_escapes_what_callers_wrote(standin: Server) -> None:
    with standin.http(headers={"authorization": "Bearer sk-standin", "x-stainless-retry-count": "<b>"}) as client:
        client.post("/openai/v1/responses", json={"model": "gpt-6-luna", "input": "the harbour"})
        page = client.get("/", follow_redirects=True)

    assert page.headers["content-type"].startswith("text/html")
    assert "openai/responses" in page.text
    assert "<b>" not in page.text and "&lt;b&gt;" in page.text


def test_a_reset_forgets_everything(standin: Server, files: Files) -> None:
    with standin.did() as client:
        script = {"type": "audio", "audio_url": f"{files.url}/voice.mp3"}
        client.post("/did/talks", json={"source_url": f"{files.url}/face.png", "script": script})
        standin.fault("did", "hang", times=None)
        standin.control("reset", {})

        assert client.get("/did/talks").json() == {"talks": []}
    assert standin.bills() == []
    assert standin.control("faults")["rules"] == []


def test_help_teaches_every_setting() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "renderfleet_standin", "--help"], capture_output=True, text=True, check=True
    ).stdout

    for name in StandinSettings.model_fields:
        assert f"RENDERFLEET_STANDIN_{name.upper()}=" in shown
    for path in ("/openai/v1", "/elevenlabs", "/did", "/_standin/faults", "/_standin/hold"):
        assert path in shown


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERFLEET_STANDIN_OPENAI_KEYS", "sk-one, sk-two")
    monkeypatch.setenv("RENDERFLEET_STANDIN_STRICT", "false")
    monkeypatch.setenv("RENDERFLEET_STANDIN_DATA", "/data")

    settings = StandinSettings()
    assert settings.openai_keys == ("sk-one", "sk-two")
    assert not settings.strict
    assert settings.data == Path("/data")


def test_health(standin: Server) -> None:
    started = time.monotonic()
    assert standin.fetch(f"{standin.url}/healthz").json() == {"status": "ok"}
    assert time.monotonic() - started < 5
