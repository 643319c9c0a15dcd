"""Every command that goes by REST, from the words that are typed to the exit code, over real HTTP."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.support.command_line import CommandLine

from . import api_server
from .api_server import ADMIN_KEY, TENANT_KEY, Api, hang_up, refuse

VOICE = ("submit", "voice", "--text", "Welcome aboard.", "--voice-id", "v1")


# login


def test_login_tries_the_key_before_it_keeps_it(run: CommandLine, own_config: Path) -> None:
    with api_server.running() as api:
        refused = run("login", api.url, stdin="rf_wrong\n")
        accepted = run("login", api.url, "--profile", "staging", stdin=f"{TENANT_KEY}\n")
        file = own_config / "profiles.json"

        assert refused.code == 2
        assert "The API key is not valid" in refused.err and "fix: " in refused.err
        assert accepted.code == 0, accepted.err
        assert TENANT_KEY not in accepted.out + accepted.err
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert run("list", "--profile", "staging").code == 0
        assert run("logout", "--profile", "staging").code == 0
        assert json.loads(file.read_text()) == {"profiles": {}}


def test_login_knows_an_administrators_key(run: CommandLine, own_config: Path) -> None:
    with api_server.running() as api:
        assert run("login", api.url, stdin=ADMIN_KEY).out.startswith("administrator's key at ")


def test_login_without_a_key(run: CommandLine) -> None:
    assert run("login", "https://renders.test", stdin="").code == 2


# what there is


def test_list_and_get(run: CommandLine, api: Api) -> None:
    api.add(name="older", status="Succeeded", reason="MediaReady", progress=100)
    newer = api.add("VideoRender", "welcome", status="Queued", reason="BehindOthers", labels={"campaign": "spring"})

    assert [line.split()[1] for line in run("list").out.splitlines()] == ["NAME", "welcome", "older"]
    assert run("list", "-o", "name", "--kind", "video").out == "videorender.renderfleet.dev/welcome\n"
    assert run("list", "-o", "name", "-l", "campaign=spring").out == "videorender.renderfleet.dev/welcome\n"
    assert run("list", "-o", "name", "--phase", "succeeded").out == "voicejob.renderfleet.dev/older\n"
    assert run("list", "-o", "name", "--limit", "1").out == "videorender.renderfleet.dev/welcome\n"
    assert json.loads(run("get", "welcome", "-o", "json").out)["id"] == newer["id"]
    assert yaml.safe_load(run("get", newer["id"], "-o", "yaml").out)["name"] == "welcome"
    assert [one["name"] for one in json.loads(run("list", "-o", "json").out)["items"]] == ["welcome", "older"]


def test_pages_are_read_as_far_as_was_asked_for(run: CommandLine, api: Api) -> None:
    for number in range(450):
        api.add(name=f"n-{number:03}")

    assert len(run("list", "-o", "name", "--limit", "1000").out.splitlines()) == 450
    assert len(run("list", "-o", "name", "--limit", "210").out.splitlines()) == 210
    plain = run("list", "-o", "name")
    assert len(plain.out.splitlines()) == 200, "nobody reads the history of years by accident"
    assert "--limit N shows more" in plain.err
    assert run("get", "n-000", "-o", "name").code == 0, "a name is found on the last page"


def test_of_two_jobs_of_one_name_the_newest_is_meant(run: CommandLine, api: Api) -> None:
    api.add(name="greeting", status="Failed")
    newest = api.add(name="greeting", status="Queued")

    assert json.loads(run("get", "greeting", "-o", "json").out)["id"] == newest["id"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("get", "nobody"), 1, "there is no render nobody at http"),
        (("get", "vj/nobody"), 1, "there is no VoiceJob nobody at http"),
        (("get", "pod/x"), 2, "KIND is avatar, voice or video"),
        (("get",), 2, "Missing argument"),
        (("list", "--phase", "Nope"), 2, "there is no phase 'Nope'"),
        (("list", "--kind", "pod"), 2, "there is no kind 'pod'"),
        (("list", "-l", "a in (b)"), 2, "only name=value is understood"),
        (("list", "-o", "table"), 2, "-o"),
        (("redrive",), 2, "which ones?"),
        (("cost", "--by", "day"), 2, "nothing to add up by"),
        (("cost", "--since", "soon"), 2, "not a length of time"),
        (("completion", "tcsh"), 2, "no completion for 'tcsh'"),
        (("submit", "picture"), 2, "No such command"),
        (("list", "--profile", "prod"), 2, "no profile 'prod'"),
    ],
)
def test_what_is_wrong_is_said_with_its_exit_code(
    run: CommandLine, api: Api, words: tuple[str, ...], code: int, said: str
) -> None:
    ran = run(*words)

    assert ran.code == code
    assert said in ran.err
    assert "Traceback" not in ran.err


# submit


def test_submit_sends_what_the_flags_say(run: CommandLine, api: Api) -> None:
    ran = run(*VOICE, "--name", "greeting", "-l", "campaign=spring", "--priority", "900", "--max-attempts", "2")

    assert ran.code == 0, ran.err
    assert ran.out == "voicejob.renderfleet.dev/greeting submitted\n"
    assert api.bodies == [
        {
            "text": "Welcome aboard.",
            "voiceId": "v1",
            "name": "greeting",
            "labels": {"campaign": "spring"},
            "priority": 900,
            "retryPolicy": {"maxAttempts": 2},
        }
    ]


def test_submit_a_video_with_the_preferred_avatar(run: CommandLine, api: Api) -> None:
    assert run("submit", "video", "--voice-ref", "greeting").code == 0
    assert run("submit", "video", "--voice-ref", "greeting", "--avatar-id", "a1", "--no-stitch").code == 0

    assert api.bodies == [
        {"voiceRef": {"name": "greeting"}},
        {"voiceRef": {"name": "greeting"}, "avatarId": "a1", "stitch": False},
    ]


def test_submit_a_text_from_stdin(run: CommandLine, api: Api) -> None:
    ran = run("submit", "voice", "--text", "@-", "--voice-id", "v1", stdin="Mind the step.\n")

    assert ran.code == 0, ran.err
    assert api.bodies[0]["text"] == "Mind the step."


def test_a_lost_answer_makes_one_job(run: CommandLine, api: Api) -> None:
    """The server did all of it and the connection broke before it could say so."""
    api.after.append(hang_up)

    ran = run(*VOICE)

    assert ran.code == 0, ran.err
    assert len(api.jobs) == 1
    assert [method for method, _ in api.requests] == ["POST", "POST"]


def test_not_now_is_asked_again_as_late_as_the_server_wishes(run: CommandLine, api: Api) -> None:
    api.faults += [refuse(429, "rate_limited", {"Retry-After": "0.1"}), refuse(503, headers={"Retry-After": "0.1"})]

    assert run(*VOICE).code == 0
    assert len(api.requests) == 3


def test_not_now_for_a_long_time_is_said_at_once(run: CommandLine, api: Api) -> None:
    api.faults.append(refuse(503, headers={"Retry-After": "3600"}))

    ran = run("list")

    assert ran.code == 3
    assert "Not now." in ran.err and "trace tttt" in ran.err
    assert len(api.requests) == 1


def test_what_the_api_refuses_is_wrong_usage(run: CommandLine, api: Api) -> None:
    ran = run("submit", "voice", "--voice-id", "v1")

    assert ran.code == 2
    assert "error: give exactly one of text and prompt" in ran.err


def test_a_choice_that_there_is_not_never_leaves_the_machine(run: CommandLine, api: Api) -> None:
    ran = run("submit", "avatar", "--prompt", "a sailor", "--size", "1x1")

    assert ran.code == 2
    assert "1024x1536" in ran.err
    assert api.requests == []


def test_submit_manifests(run: CommandLine, api: Api, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    one = {
        "apiVersion": "renderfleet.dev/v1alpha1",
        "kind": "VoiceJob",
        "metadata": {"name": "a"},
        "spec": {"text": "x", "voiceId": "v"},
    }
    file.write_text(
        yaml.safe_dump_all([one, {**one, "metadata": {"name": "b"}}, {**one, "spec": {}, "metadata": {"name": "c"}}])
    )

    ran = run("submit", "-f", str(file))

    assert ran.code == 2
    assert ran.out.splitlines() == ["voicejob.renderfleet.dev/a submitted", "voicejob.renderfleet.dev/b submitted"]
    assert "already submitted: voicejob/a, voicejob/b" in ran.err, "what was taken is not taken back, and it is said"


def test_submit_without_anything_teaches(run: CommandLine, api: Api) -> None:
    ran = run("submit")

    assert ran.code == 2
    assert "renderfleet submit -f talking-video.yaml --wait" in ran.err
    assert "submit what?" in run("submit", "--wait").err


# wait and watch


def later(api: Api, *steps: Callable[[], None]) -> None:
    """Do these one after the other, beside the program, as soon as it has looked at what it waits for."""
    looks = len(api.requests)

    def work() -> None:
        until = time.monotonic() + 10
        while not any(path.startswith("/jobs/") for _, path in api.requests[looks:]) and time.monotonic() < until:
            time.sleep(0.01)
        for step in steps:
            step()

    threading.Thread(target=work, daemon=True).start()


def test_submit_and_wait_shows_each_change_and_the_result(run: CommandLine, api: Api) -> None:
    def on_watch() -> None:
        job = next(iter(api.jobs.values()))
        later(
            api,
            lambda: api.change(job, status="Running", reason="Started", progress=2, stage="synthesize", attempts=1),
            lambda: api.succeed(job),
        )

    api.on_watch = on_watch

    ran = run(*VOICE, "--name", "greeting", "--wait")

    assert ran.code == 0, ran.err
    shown = [line.split("  ", 1)[-1] for line in ran.out.splitlines()]
    assert shown == [
        "voicejob.renderfleet.dev/greeting submitted",
        "voicejob/greeting  Queued  0 %",
        "voicejob/greeting  Running  2 %  Started",
        "voicejob/greeting  Succeeded  100 %  MediaReady",
        f"voicejob/greeting: {api.url}/media/greeting.mp3",
    ]


def test_submit_and_wait_prints_nothing_but_json(run: CommandLine, api: Api) -> None:
    api.on_submit = lambda job: job.update(
        status="Succeeded", progress=100, finishedAt=job["createdAt"], reason="MediaReady"
    )

    ran = run(*VOICE, "--wait", "-o", "json")

    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["status"] == "Succeeded"
    assert "voicejob/" in ran.err


def test_a_render_that_fails_is_exit_code_1(run: CommandLine, api: Api) -> None:
    api.on_submit = lambda job: job.update(
        status="Failed", reason="Moderated", message="not this text", finishedAt=job["createdAt"]
    )

    ran = run(*VOICE, "--name", "greeting", "--wait")

    assert ran.code == 1
    assert "voicejob/greeting ended as Failed: not this text" in ran.err


def test_waiting_can_be_given_up(run: CommandLine, api: Api) -> None:
    ran = run(*VOICE, "--name", "greeting", "--wait", "--timeout", "0.4")

    assert ran.code == 1
    assert "voicejob/greeting not over in time" in ran.err
    assert "renderfleet why voicejob/greeting" in ran.err


def test_watch_goes_on_after_a_broken_line_without_missing_anything(run: CommandLine, api: Api) -> None:
    job = api.add(name="greeting", status="Running", reason="Started")
    watched = 0

    def on_watch() -> None:
        nonlocal watched
        watched += 1
        if watched == 1:
            later(
                api,
                lambda: api.change(job, progress=30),
                api.cut_streams,
                lambda: api.change(job, progress=60),
                lambda: api.succeed(job),
            )

    api.on_watch = on_watch

    ran = run("watch", "greeting")

    assert ran.code == 0, ran.err
    assert watched == 2
    assert "30 %" in ran.out
    assert ran.out.splitlines()[-1].endswith("voicejob/greeting  Succeeded  100 %  MediaReady")


def test_watch_follows_all_that_is_under_way(run: CommandLine, api: Api) -> None:
    first, second = api.add(name="one"), api.add("VideoRender", "two", status="Waiting")
    api.add(name="over", status="Failed", finishedAt="2026-11-24T00:00:00Z")
    api.on_watch = lambda: later(
        api,
        lambda: api.succeed(second),
        lambda: api.change(first, status="DeadLettered", reason="AttemptsExhausted", message="503", finishedAt="2026-11-24T00:00:00Z"),
    )  # fmt: skip

    ran = run("watch")

    assert ran.code == 1
    assert "voicejob/one ended as DeadLettered: 503 (1 of 2)" in ran.err
    assert "over" not in ran.out
    assert len([path for _, path in api.requests if path == "/events"]) == 1, "one stream serves all"


def test_watch_with_nothing_under_way(run: CommandLine, api: Api) -> None:
    assert run("watch").code == 0


def test_ctrl_c_ends_a_watch_without_a_word(api: Api) -> None:
    api.add(name="greeting", status="Running")
    watching = subprocess.Popen(
        [sys.executable, "-m", "renderfleet_cli", "watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 30
    while not api.streams and time.monotonic() < until:
        time.sleep(0.02)

    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=20)

    assert watching.returncode == 130
    assert said.strip() == ""


# change


def test_retry_and_cancel(run: CommandLine, api: Api) -> None:
    dead = api.add(name="dead", status="DeadLettered", finishedAt="2026-11-24T00:00:00Z")
    live = api.add(name="live")

    assert run("retry", "dead").out == "voicejob.renderfleet.dev/dead is tried again\n"
    assert run("cancel", "live").out == "voicejob.renderfleet.dev/live is Aborted\n"
    assert ("POST", f"/jobs/{dead['id']}/retry") in api.requests
    assert live["status"] == "Aborted"
    refused = run("retry", "live", "dead")
    assert refused.code == 0
    refused = run("cancel", "live")
    assert refused.code == 1
    assert "The job is over: Aborted." in refused.err


def dead(api: Api, name: str, **told: object) -> str:
    job = api.add(
        name=name, status="DeadLettered", finishedAt="2026-11-24T00:00:00Z", cost={"actualMicros": 500_000}, **told
    )
    return str(job["id"])


def test_redrive_asks_first(run: CommandLine, api: Api) -> None:
    dead(api, "a")

    ran = run("redrive", "--all-dead")

    assert ran.code == 2
    assert "Try 1 render again, which may cost about 0.50 USD?" in ran.err and "--yes" in ran.err
    assert [method for method, _ in api.requests] == ["GET"]


def test_redrive_by_selector_oldest_first(run: CommandLine, api: Api) -> None:
    first = dead(api, "a", labels={"campaign": "spring"})
    dead(api, "b")
    third = dead(api, "c", labels={"campaign": "spring"})

    ran = run("redrive", "-l", "campaign=spring", "--yes")

    assert ran.code == 0, ran.err
    posts = [path for method, path in api.requests if method == "POST"]
    assert posts == [f"/jobs/{first}/retry", f"/jobs/{third}/retry"]


def test_redrive_dry_run_changes_nothing(run: CommandLine, api: Api) -> None:
    dead(api, "a")

    ran = run("redrive", "--all-dead", "--dry-run")

    assert ran.code == 0
    assert "DeadLettered" in ran.out
    assert all(method == "GET" for method, _ in api.requests)


def test_redrive_by_an_administrator(run: CommandLine, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERFLEET_KEY", ADMIN_KEY)
    first, second = dead(api, "a"), dead(api, "b")

    ran = run("redrive", "--all-dead", "--tenant", "acme", "--yes")

    assert ran.code == 0, ran.err
    assert api.bodies == [{"ids": [first, second], "limit": 2, "tenant": "acme"}]


def test_redrive_with_nothing_dead(run: CommandLine, api: Api) -> None:
    ran = run("redrive", "--all-dead", "--yes")

    assert (ran.code, ran.out) == (0, "")


# look


def test_why(run: CommandLine, api: Api) -> None:
    api.add(
        name="greeting", reason="BehindOthers", message="elevenlabs: all 5 places are taken",
        queue={"position": 2, "etaSeconds": 50, "since": "2026-11-24T00:00:00Z"},
    )  # fmt: skip

    ran = run("why", "greeting")

    assert ran.code == 0
    assert "It is number 2 in the line for elevenlabs and should start in about 50 seconds." in " ".join(
        ran.out.split()
    )


def test_cost(run: CommandLine, api: Api) -> None:
    api.add(name="a", status="Succeeded", cost={"actualMicros": 31_500})
    api.add("VideoRender", "b", status="Succeeded", cost={"actualMicros": 200_000})

    by_kind = run("cost", "--by", "kind")
    document = json.loads(run("cost", "--by", "tenant", "-o", "json", "--since", "30d").out)

    assert "0.2315 USD" in by_kind.out
    assert document["items"][0] == {
        "tenant": "acme", "currency": "USD", "renders": 2, "succeeded": 2, "underWay": 0, "actualMicros": 231_500,
        "expectedMicros": 0, "chargeUnknown": 0,
    }  # fmt: skip
    assert any("createdAfter=" in path for _, path in api.requests)


def test_top(run: CommandLine, api: Api) -> None:
    api.add(name="a", reason="QuotaExhausted", status="Queued")

    ran = run("top")

    assert ran.code == 0, ran.err
    assert [block.split()[0] for block in ran.out.split("\n\n")] == ["POOL", "TENANT", "PROVIDER"]


def test_top_in_every_form(run: CommandLine, api: Api) -> None:
    api.add(name="a", reason="QuotaExhausted", status="Queued")
    api.add(name="b", reason="CircuitOpen", status="Queued")
    api.add(name="c", reason="CircuitOpen", status="Queued")

    document = json.loads(run("top", "-o", "json").out)
    [tenant] = document["tenants"]
    assert (tenant["name"], tenant["waiting"]) == ("acme", 3)
    assert tenant["reasons"] == {"CircuitOpen": 2, "QuotaExhausted": 1}
    assert yaml.safe_load(run("top", "-o", "yaml").out) == document
    assert "CircuitOpen (2 of 3), QuotaExhausted (1 of 3)" in run("top", "-o", "wide").out
    assert "rendertenant.renderfleet.dev/acme" in run("top", "-o", "name").out.splitlines()
    assert "TENANT" not in run("top", "--no-headers").out


def test_tables_without_their_heads(run: CommandLine, api: Api) -> None:
    api.add(name="greeting", cost={"actualMicros": 31_500})

    for words in (("list",), ("get", "greeting"), ("list", "-o", "wide"), ("cost", "--since", "1d")):
        plain, bare = run(*words), run(*words, "--no-headers")

        assert bare.code == 0, bare.err
        assert len(bare.out.splitlines()) == len(plain.out.splitlines()) - 1


def test_why_as_fields(run: CommandLine, api: Api) -> None:
    api.add(name="greeting", status="Queued", reason="QuotaExhausted", queue={"position": 2, "etaSeconds": 50})

    told = json.loads(run("why", "greeting", "-o", "json").out)

    assert (told["reason"], told["position"], told["etaSeconds"]) == ("QuotaExhausted", 2, 50)
    assert told["why"] in run("why", "greeting").text


@pytest.mark.parametrize("words", [("cost",), ("doctor",), ("why", "greeting")])
def test_a_form_that_there_is_not_is_refused_and_not_ignored(
    run: CommandLine, api: Api, words: tuple[str, ...]
) -> None:
    ran = run(*words, "-o", "wide")

    assert ran.code == 2
    assert "--output" in ran.err and "yaml" in ran.err


def test_logs_are_in_the_cluster(run: CommandLine, api: Api) -> None:
    api.add(name="greeting")

    ran = run("logs", "greeting")

    assert ran.code == 2
    assert "there is no kubeconfig" in ran.err


def test_names_are_offered_while_they_are_typed(api: Api) -> None:
    api.add(name="greeting"), api.add("VideoRender", "welcome"), api.add(name="goodbye")

    def offered(typed: str) -> list[str]:
        environment = {
            "_RENDERFLEET_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split()) - 1),
        }
        ran = subprocess.run(
            [sys.executable, "-m", "renderfleet_cli"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.stdout.split()

    assert offered("renderfleet why g") == ["goodbye", "greeting"]
    assert offered("renderfleet cancel video/w") == ["video/welcome"]
    assert offered("renderfleet cancel vj/g") == ["vj/goodbye", "vj/greeting"]
    assert offered("renderfleet cancel pod/g") == []
    assert offered("renderfleet why --profile nobody g") == [], "and no error, however wrong the line is"


# doctor


def findings(out: str) -> dict[str, str]:
    return {one["what"]: one["verdict"] for one in json.loads(out)["findings"]}


def test_doctor_finds_all_well(run: CommandLine, api: Api) -> None:
    api.succeed(api.add(name="greeting"))

    ran = run("doctor", "-o", "json")

    assert ran.code == 0, ran.out
    assert findings(ran.out) == {
        "REST API": "ok",
        "database": "ok",
        "API key": "ok",
        "storage": "ok",
        "results": "ok",
        "providers": "skip",
    }
    assert "Authorization" not in api.media_headers, "our key is not for storage to see"
    assert api.media_headers["Range"] == "bytes=0-0"


def test_doctor_finds_database_and_storage_away(run: CommandLine, api: Api) -> None:
    api.succeed(api.add(name="greeting"))
    api.ready = (503, {"ready": False, "parts": {"database": "does not answer", "storage": "away"}})
    api.media_status = 403

    ran = run("doctor")

    assert ran.code == 1
    assert re.findall(r"FAIL  (\w+)", ran.out) == ["database", "storage", "results"]
    assert ran.out.count("fix: ") == 3


def test_doctor_looks_at_providers_with_an_administrators_key(
    run: CommandLine, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDERFLEET_KEY", ADMIN_KEY)
    api.providers = [
        {"name": "did", "vendor": "did", "hold": False, "limits": {}, "status": {"circuit": "Closed", "held": True, "heldReason": "402"}},
        {"name": "openai", "vendor": "openai", "hold": False, "limits": {}, "status": {"circuit": "Closed"}},
    ]  # fmt: skip

    ran = run("doctor", "-o", "json")

    assert ran.code == 1
    assert findings(ran.out)["provider did"] == "fail"
    assert findings(ran.out)["provider openai"] == "ok"


def test_doctor_with_nobody_there(run: CommandLine, own_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERFLEET_URL", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("RENDERFLEET_KEY", "rf_x")

    assert run("doctor").code == 3


# nobody there


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("words", [("list",), VOICE, ("watch", "x"), ("cancel", "x"), ("top",)])
def test_nobody_answers(
    run: CommandLine, own_config: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RENDERFLEET_URL", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("RENDERFLEET_KEY", "rf_x")

    ran = run(*words)

    assert ran.code == 3
    assert "does not answer" in ran.err and "fix: " in ran.err


def test_an_address_that_is_none_of_ours(run: CommandLine, api: Api) -> None:
    api.faults.append(api_server.speak_html)

    ran = run("list")

    assert ran.code == 3
    assert "not in the words of this API" in ran.err


def test_no_address_at_all(run: CommandLine, own_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERFLEET_URL", "renders")
    monkeypatch.setenv("RENDERFLEET_KEY", "rf_x")

    assert run("list").code == 2


def test_with_nothing_configured_both_ways_are_named(run: CommandLine) -> None:
    ran = run("list")

    assert ran.code == 2
    assert "renderfleet login" in ran.err and "KUBECONFIG" in ran.err


def test_the_plugin_never_goes_by_rest(run: CommandLine, api: Api) -> None:
    ran = run("list", called="/usr/local/bin/kubectl-renders")

    assert ran.code == 2
    assert "KUBECONFIG" in ran.err
    assert api.requests == []


# ask first


def test_a_dry_run_says_what_it_would_cost_and_makes_nothing(run: CommandLine, api: Api) -> None:
    told = run(*VOICE, "--name", "greeting", "--dry-run")
    document = json.loads(run(*VOICE, "--dry-run", "-o", "json").out)
    wrong = run("submit", "voice", "--voice-id", "v1", "--dry-run")

    assert told.out == "voicejob.renderfleet.dev/greeting is valid: about 0.063405 USD, starts in about 90 seconds\n"
    assert (document["micros"], document["spec"]["text"]) == (63_405, "Welcome aboard.")
    assert wrong.code == 2
    assert "give exactly one of text and prompt" in wrong.err
    assert api.jobs == {}


def test_a_provider_is_held_and_released_by_an_administrator(
    run: CommandLine, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("hold", "did").code == 1
    monkeypatch.setenv("RENDERFLEET_KEY", ADMIN_KEY)

    assert run("hold", "did").out == "renderprovider.renderfleet.dev/did held\n"
    assert run("release", "did").out == "renderprovider.renderfleet.dev/did released\n"
    assert [one for one in api.requests if "/hold" in one[1] or "/release" in one[1]][1:] == [
        ("POST", "/admin/providers/did/hold"),
        ("POST", "/admin/providers/did/release"),
    ]
    assert run("hold", "nobody").code == 1


def test_priorities_are_a_matter_of_the_cluster(run: CommandLine, api: Api) -> None:
    api.add(name="greeting")

    refused = run("priority", "500", "greeting")

    assert (refused.code, "--via cluster" in refused.err) == (2, True)
