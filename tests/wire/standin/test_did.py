"""The D-ID side: talks from creation to video, its URL rules, its refusals, its money."""

import base64
import io
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from renderfleet_standin.did_api.body import AUDIO_URL, AUDIO_URL_RELAXED, SOURCE_URL, WEBHOOK
from renderfleet_standin.media import face as geometry
from renderfleet_standin.media import portrait

from .conftest import Certificate, Files, Probe, Server, file_place


def audio_talk(files: Files, **more: Any) -> dict[str, Any]:
    """The smallest good request."""
    script = {"type": "audio", "audio_url": f"{files.url}/voice.mp3"}
    return {"source_url": f"{files.url}/face.png", "script": script, **more}


def create(server: Server, body: dict[str, Any]) -> httpx2.Response:
    with server.did() as client:
        return client.post("/did/talks", json=body)


def finished(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    answer = create(server, body)
    assert answer.status_code == 201, answer.text
    return server.ended_talk(answer.json()["id"])


def get(server: Server, path: str) -> Any:
    with server.did() as client:
        return client.get(f"/did{path}").json()


def png(width: int, height: int, seed: int = 3) -> bytes:
    return portrait.encode(portrait.draw_portrait(seed, width, height), "png")


def frames_of(video: bytes, folder: Path) -> list[Image.Image]:
    """Every fifth picture of a video."""
    file = folder / "video.mp4"
    file.write_bytes(video)
    command = ["ffmpeg", "-v", "error", "-i", str(file), "-vf", "select=not(mod(n\\,5))", "-vsync", "0"]
    subprocess.run([*command, str(folder / "f%03d.png")], check=True)
    return [Image.open(one).convert("RGB") for one in sorted(folder.glob("f*.png"))]


def test_a_talk_becomes_a_video_as_long_as_its_audio(standin: Server, files: Files, probed: Probe) -> None:
    answer = create(standin, audio_talk(files, user_data="job-1", name="first"))
    talk = standin.ended_talk(answer.json()["id"])
    found = probed(standin.fetch(talk["result_url"]).content)

    assert answer.status_code == 201
    assert set(answer.json()) == {"id", "object", "created_by", "created_at", "status"}
    assert answer.json()["status"] == "created" and answer.json()["id"].startswith("tlk_")
    video, audio = sorted(found["streams"], key=lambda stream: stream["codec_type"], reverse=True)
    assert (video["codec_name"], video["pix_fmt"], video["width"], video["height"]) == ("h264", "yuv420p", 512, 512)
    assert video["r_frame_rate"] == "25/1"
    assert audio["codec_name"] == "aac"
    spoken = float(probed(files.content["/voice.mp3"])["format"]["duration"])
    for stream in (video, audio):
        assert float(stream["duration"]) == pytest.approx(spoken, abs=0.12)
    assert talk["duration"] == pytest.approx(spoken, abs=0.1)
    assert talk["metadata"]["num_frames"] == int(video["nb_frames"])


def test_the_answers_have_the_vendors_oddities(standin: Server, files: Files) -> None:
    talk = finished(standin, audio_talk(files, user_data="job-1", config={"pad_audio": 1, "fluent": True}))

    assert talk["user_data"] == "job-1"
    assert talk["created_at"].endswith("Z")
    assert not talk["started_at"].endswith("Z")
    assert talk["config"] == {"stitch": False, "result_format": ".mp4", "fluent": True, "pad_audio": 1.0}
    assert "AWSAccessKeyId=" in talk["result_url"] and "Expires=" in talk["result_url"] and "%7C" in talk["result_url"]


def test_the_mouth_moves_and_the_rest_keeps_still(standin: Server, files: Files, tmp_path: Path) -> None:
    talk = finished(standin, audio_talk(files))
    frames = frames_of(standin.fetch(talk["result_url"]).content, tmp_path)

    def red_around_the_mouth(frame: Image.Image) -> int:
        y = round((0.5 + geometry.MOUTH_Y) * 512)
        area = frame.crop((256 - 40, y - 30, 256 + 40, y + 30))
        pixels: list[tuple[int, int, int]] = list(area.get_flattened_data())  # type: ignore[arg-type]
        return sum(red < 130 and green < 60 for red, green, _ in pixels)

    openings = [red_around_the_mouth(frame) for frame in frames]
    assert len(frames) > 5
    assert max(openings) > 150 + min(openings), "the dark inside of the mouth grows and shrinks"
    corners = [frame.crop((0, 0, 60, 60)).resize((1, 1)).getpixel((0, 0)) for frame in frames]
    assert max(abs(a - b) for one in corners for a, b in zip(one, corners[0], strict=True)) < 6  # type: ignore[arg-type]


def test_a_stitched_talk_keeps_the_pictures_shape(standin: Server, files: Files, probed: Probe) -> None:
    files.content["/wide.jpg"] = portrait.encode(portrait.draw_portrait(4, 801, 600), "jpeg", compression=90)
    talk = finished(
        standin, audio_talk(files, source_url=f"{files.url}/wide.jpg", config={"stitch": True, "result_format": "mov"})
    )
    answer = standin.fetch(talk["result_url"])

    video = next(s for s in probed(answer.content)["streams"] if s["codec_type"] == "video")
    assert (video["width"], video["height"]) == (800, 600)
    assert answer.headers["content-type"] == "video/quicktime"


def test_padding_makes_the_video_longer(standin: Server, files: Files) -> None:
    plain = finished(standin, audio_talk(files))
    padded = finished(standin, audio_talk(files, config={"pad_audio": 2}))

    assert padded["duration"] - plain["duration"] == pytest.approx(2, abs=0.05)


def test_a_talk_from_text_is_spoken(standin: Server, files: Files, probed: Probe) -> None:
    script = {
        "type": "text",
        "input": "Welcome aboard.",
        "provider": {"type": "microsoft", "voice_id": "en-GB-RyanNeural"},
    }
    talk = finished(standin, {"source_url": f"{files.url}/face.png", "script": script})

    assert talk["status"] == "done"
    assert {s["codec_name"] for s in probed(standin.fetch(talk["result_url"]).content)["streams"]} == {"h264", "aac"}


def test_uploads_can_be_used_in_talks(standin: Server, face: bytes, voice: bytes) -> None:
    with standin.did() as client:
        image = client.post("/did/images", files={"image": ("me.png", face, "image/png")}).json()
        faces = client.post("/did/images", files={"image": ("me.png", face)}, data={"detect_faces": "true"}).json()
        audio = client.post("/did/audios", files={"audio": ("me.mp3", voice, "audio/mpeg")}).json()
    talk = finished(standin, {"source_url": image["url"], "script": {"type": "audio", "audio_url": audio["url"]}})

    assert image["faces"] is None and len(faces["faces"]) == 1
    assert SOURCE_URL.search(image["url"]) and AUDIO_URL.search(audio["url"]), "upload addresses pass the strict rules"
    assert talk["status"] == "done"
    assert talk["duration"] == pytest.approx(audio["duration"], abs=0.05)


@pytest.mark.parametrize(
    ("path", "field", "name", "content", "expected"),
    [
        pytest.param("images", "image", "me.webp", b"RIFF0000WEBPVP8 ", (415, "UnsupportedMimeTypeError"), id="picture of another kind"),
        pytest.param("images", "image", "me you.png", png(200, 200), (400, "BadRequestError"), id="blank in the name"),
        pytest.param("images", "image", "x" * 51, png(200, 200), (400, "BadRequestError"), id="name too long"),
        pytest.param("images", "picture", "me.png", png(200, 200), (400, "BadRequestError"), id="field of another name"),
        pytest.param("audios", "audio", "me.mp3", b"no audio at all", (415, "UnsupportedMimeTypeError"), id="no audio"),
        pytest.param("audios", "audio", "me.mp3", b"0" * 6_000_001, (400, "InvalidFileSizeError"), id="audio too large"),
    ],
)  # fmt: skip
def test_what_uploads_refuse(
    standin: Server, path: str, field: str, name: str, content: bytes, expected: tuple[int, str]
) -> None:
    with standin.did() as client:
        answer = client.post(f"/did/{path}", files={field: (name, content)})

    assert (answer.status_code, answer.json()["kind"]) == expected


def test_an_oversized_picture_is_taken_by_the_upload_and_refused_by_the_talk(standin: Server, files: Files) -> None:
    """The vendor's own trap: 10 485 760 pixels are a limit of talks, not of uploads."""
    picture = io.BytesIO()
    Image.new("RGB", (4096, 2561), (200, 180, 160)).save(picture, "PNG")
    with standin.did() as client:
        image = client.post("/did/images", files={"image": ("big.png", picture.getvalue())})
    answer = create(standin, audio_talk(files, source_url=image.json()["url"]))

    assert image.status_code == 201
    assert (answer.status_code, answer.json()["kind"]) == (400, "InvalidFileSizeError")


SIGV4 = (
    "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20261124%2Feu%2Fs3%2Faws4_request&X-Amz-Signature=0aF"
)


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        pytest.param("https://b.example/voice.mp3", True, id="plain"),
        pytest.param("s3://bucket/voice.wav", True, id="s3"),
        pytest.param("https://b.example/voice.MP3", True, id="upper case"),
        pytest.param("https://b.example/voice.mp3" + SIGV4, True, id="S3 SigV4"),
        pytest.param("https://b.example/voice.mp3?Expires=1&Signature=aB-c_d~&Key-Pair-Id=K1", False, id="CloudFront signature"),
        pytest.param("http://b.example/voice.mp3", False, id="http"),
        pytest.param("data:audio/mpeg;base64,AAAA.mp3", False, id="data"),
        pytest.param("https://b.example/voice.ogg", False, id="other suffix"),
        pytest.param("https://b.example/voice", False, id="no suffix"),
        pytest.param("xhttps://b.example/voice.mp3", False, id="anchored at the front"),
        pytest.param("https://b.example/a b.mp3", False, id="blank"),
    ],
)  # fmt: skip
def test_audio_urls_by_the_published_pattern(url: str, taken: bool) -> None:
    assert bool(AUDIO_URL.search(url)) is taken


def test_relaxed_rules_differ_in_http_alone() -> None:
    assert AUDIO_URL_RELAXED.search("http://b.example/voice.mp3")
    assert not AUDIO_URL_RELAXED.search("http://b.example/voice.mp3?Signature=a~b")


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://cdn.example/a.png?Signature=ab~cd", True),
        ("s3://bucket/a.jpeg", True),
        ("xx https://b.example/a.jpg", True),
        ("http://cdn.example/a.png", False),
        ("https://cdn.example/a.webp", False),
        ("data:image/png;base64,AA", False),
    ],
)
def test_source_urls_by_the_published_pattern(url: str, taken: bool) -> None:
    assert bool(SOURCE_URL.search(url)) is taken


@pytest.mark.parametrize(
    ("url", "taken"), [("https://a.example/x", True), ("http://a.example/x", False), ("https://a b", False)]
)
def test_webhooks_are_https(url: str, taken: bool) -> None:
    assert bool(WEBHOOK.search(url)) is taken


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"script": None}, (400, "script"), id="no script"),
        pytest.param({"script": {"type": "song"}}, (400, "script.type"), id="unknown script"),
        pytest.param({"script": {"type": "audio"}}, (400, "script.audio_url"), id="no audio"),
        pytest.param({"script": {"type": "text", "input": "ab"}}, (400, "script.input"), id="text too short"),
        pytest.param({"script": {"type": "text", "input": "x" * 10_001}}, (400, "script.input"), id="text too long"),
        pytest.param({"script": {"type": "text", "input": "abc", "provider": {"type": "acme"}}}, (400, "script.provider.type"), id="unknown provider"),
        pytest.param({"source_url": "ftp://x/a.png"}, (400, "source_url"), id="ftp"),
        pytest.param({"user_data": "  "}, (400, "user_data"), id="blank user_data"),
        pytest.param({"user_data": "x" * 1001}, (400, "user_data"), id="long user_data"),
        pytest.param({"webhook": "ftp://x"}, (400, "webhook"), id="webhook elsewhere"),
        pytest.param({"config": {"pad_audio": 61}}, (400, "config.pad_audio"), id="too much padding"),
        pytest.param({"config": {"result_format": "avi"}}, (400, "config.result_format"), id="unknown container"),
        pytest.param({"config": {"stitch": "yes"}}, (400, "config.stitch"), id="flag as text"),
    ],
)  # fmt: skip
def test_what_talks_refuse_by_form(
    standin: Server, files: Files, change: dict[str, Any], expected: tuple[int, str]
) -> None:
    answer = create(standin, {**audio_talk(files), **change})

    assert answer.status_code == expected[0]
    assert answer.json()["kind"] == "BadRequestError"
    assert list(answer.json()["details"]) == [expected[1]]
    assert standin.bills() == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        pytest.param(png(4096, 2576), "InvalidFileSizeError", id="too many pixels"),
        pytest.param(png(400, 159), "InvalidImageResolutionError", id="too small"),
        pytest.param(
            portrait.encode(portrait.draw_portrait(1, 200, 200), "webp"), "BadRequestError", id="webp named png"
        ),
        pytest.param(png(300, 300)[:200], "BadRequestError", id="cut short"),
    ],
)
def test_what_talks_refuse_in_pictures(standin: Server, files: Files, content: bytes, kind: str) -> None:
    files.content["/face.png"] = content
    answer = create(standin, audio_talk(files))

    assert (answer.status_code, answer.json()["kind"]) == (400, kind)
    assert standin.bills() == []


def test_what_talks_refuse_in_audio(standin: Server, files: Files) -> None:
    files.content["/voice.mp3"] = b"no audio"
    unreadable = create(standin, audio_talk(files))
    silence = (
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\xff\xff\xff\xff"
    )
    files.content["/voice.mp3"] = silence + b"\x80" * (8000 * 601)
    too_long = create(standin, audio_talk(files))

    assert (unreadable.status_code, unreadable.json()["kind"]) == (400, "BadRequestError")
    assert (too_long.status_code, too_long.json()["kind"]) == (400, "InvalidAudioDurationError")


def test_a_source_that_cannot_be_fetched_fails_the_job_and_returns_the_credits(standin: Server, files: Files) -> None:
    before = get(standin, "/credits")["remaining"]
    talk = finished(standin, audio_talk(files, source_url=f"{files.url}/gone.png"))

    assert (talk["status"], talk["error"]["kind"]) == ("error", "SourceError")
    assert "result_url" not in talk
    assert get(standin, "/credits")["remaining"] == before
    assert [bill["refunded"] for bill in standin.bills()] == [True]


def test_a_plain_area_has_no_face(standin: Server, files: Files) -> None:
    plain = io.BytesIO()
    Image.new("RGB", (400, 400), (200, 180, 160)).save(plain, "PNG")
    files.content["/face.png"] = plain.getvalue()

    assert finished(standin, audio_talk(files))["error"]["kind"] == "FaceError"


def test_credits_are_charged_by_length_and_counted(standin: Server, files: Files) -> None:
    before = get(standin, "/credits")
    finished(standin, audio_talk(files))
    finished(standin, audio_talk(files, config={"pad_audio": 15}))

    after = get(standin, "/credits")
    assert before["remaining"] - after["remaining"] == 1 + 2
    assert after["credits"][0]["remaining"] == after["remaining"]


def test_no_credits_no_talk(standin_with: Callable[..., Server], files: Files) -> None:
    server = standin_with(did_credits=1)
    finished(server, audio_talk(files))
    answer = create(server, audio_talk(files))

    assert (answer.status_code, answer.json()["kind"]) == (402, "InsufficientCreditsError")


def test_plan_and_limits(standin_with: Callable[..., Server], files: Files) -> None:
    server = standin_with(did_may_stitch=False, did_talks_in_flight=1, talk_seconds=5)

    stitched = create(server, audio_talk(files, config={"stitch": True}))
    first, second = create(server, audio_talk(files)), create(server, audio_talk(files))

    assert (stitched.status_code, stitched.json()["kind"]) == (403, "PermissionError")
    assert (first.status_code, second.status_code) == (201, 429)


BASE64_KEY = base64.b64encode(b"did-user:did-pass").decode()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Basic did-user:did-pass", 200),
        (f"Basic {BASE64_KEY}", 200),
        ("Bearer did-user:did-pass", 200),
        ("Basic did-user:wrong", 401),
        ("Basic %%%", 401),
        ("did-user:did-pass", 401),
        (None, 401),
    ],
)
def test_both_forms_of_the_key_are_taken(standin: Server, header: str | None, status: int) -> None:
    with standin.http(headers={"authorization": header} if header else {}) as client:
        answer = client.get("/did/credits")

    assert answer.status_code == status
    if status == 401:
        assert answer.json()["kind"] == "AuthorizationError"


def test_talks_are_listed_newest_first_and_found_by_user_data(standin: Server, files: Files) -> None:
    ids = [create(standin, audio_talk(files, user_data=f"job-{number}")).json()["id"] for number in range(3)]
    first = get(standin, "/talks?limit=2")
    rest = get(standin, f"/talks?limit=2&token={first['token']}")

    assert [talk["id"] for talk in [*first["talks"], *rest["talks"]]] == ids[::-1]
    assert "token" not in rest
    assert [t["id"] for t in get(standin, "/talks?limit=100")["talks"] if t["user_data"] == "job-1"] == [ids[1]]


def test_a_talk_can_be_deleted_when_it_is_over(standin: Server, files: Files) -> None:
    standin.fault("did", "job_stuck")
    stuck = create(standin, audio_talk(files)).json()["id"]
    done = finished(standin, audio_talk(files))["id"]
    with standin.did() as client:
        refused = client.delete(f"/did/talks/{stuck}")
        deleted = client.delete(f"/did/talks/{done}")
        gone = client.get(f"/did/talks/{done}")

    assert (refused.status_code, refused.json()["kind"]) == (409, "NotReadyError")
    assert (deleted.status_code, deleted.json()["id"]) == (200, done)
    assert (gone.status_code, gone.json()["kind"]) == (404, "NotFoundError")


def test_result_links_are_signed_and_end(standin: Server, files: Files) -> None:
    standin.fault("did", "job_expired_result")
    expired = standin.fetch(finished(standin, audio_talk(files))["result_url"])
    good = finished(standin, audio_talk(files))["result_url"]
    forged = standin.fetch(good.replace("Expires=1", "Expires=2"))
    part = standin.fetch(good, headers={"range": "bytes=0-99"})

    assert (expired.status_code, "Request has expired" in expired.text) == (403, True)
    assert (forged.status_code, "SignatureDoesNotMatch" in forged.text) == (403, True)
    assert (part.status_code, len(part.content)) == (206, 100)


def told(files: Files, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 10
    while len(files.posted) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    return files.posted


def test_the_webhook_hears_what_get_shows(standin: Server, files: Files) -> None:
    talk = finished(standin, audio_talk(files, webhook=f"{files.url}/hook", user_data="job-1"))
    heard = told(files, 1)

    assert heard == [talk], "the body is what GET shows"
    while not (callbacks := standin.control("calls")["callbacks"]):
        time.sleep(0.02)
    assert callbacks == [{"talk": talk["id"], "webhook": f"{files.url}/hook", "status_told": "done", "answered": 204}]


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        ("callback_twice", ["done", "done"]),
        ("callback_early", ["started", "done"]),
        ("job_rejected", ["rejected"]),
        ("job_face_error", ["error"]),
    ],
)
def test_webhooks_that_say_more(standin: Server, files: Files, fault: str, statuses: list[str]) -> None:
    standin.fault("did", fault)
    finished(standin, audio_talk(files, webhook=f"{files.url}/hook"))

    assert [one["status"] for one in told(files, len(statuses))] == statuses


def test_a_lost_webhook(standin: Server, files: Files) -> None:
    standin.fault("did", "callback_lost", times=1)
    finished(standin, audio_talk(files, webhook=f"{files.url}/hook", user_data="lost"))
    finished(standin, audio_talk(files, webhook=f"{files.url}/hook", user_data="heard"))

    assert [one["user_data"] for one in told(files, 1)] == ["heard"]


def test_a_webhook_may_be_called_again_and_a_link_signed_anew(
    standin_with: Callable[..., Server], files: Files
) -> None:
    """What the vendor does here is not published, so either can be had."""
    server = standin_with(did_callback_attempts=3, did_resign_on_get=True)
    server.fault("did", "job_expired_result")
    files.hook_statuses = [500, 503]
    talk = finished(server, audio_talk(files, webhook=f"{files.url}/hook"))
    heard = told(files, 3)

    assert len(heard) == 3
    assert server.fetch(heard[-1]["result_url"]).status_code == 403
    assert server.fetch(talk["result_url"]).status_code == 200


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("job_face_error", "FaceError"),
        ("job_driver_error", "DriverError"),
        ("job_logo_error", "LogoError"),
        ("job_source_error", "SourceError"),
        ("job_unknown_error", "UnknownError"),
        ("job_video_enhance_error", "VideoEnhanceError"),
        ("job_rejected", "ModerationError"),
    ],
)
def test_jobs_that_fail_return_their_credits(standin: Server, files: Files, fault: str, kind: str) -> None:
    standin.fault("did", fault)
    talk = finished(standin, audio_talk(files))

    assert talk["status"] == ("rejected" if fault == "job_rejected" else "error")
    assert talk["error"]["kind"] == kind
    assert [bill["refunded"] for bill in standin.bills()] == [True]


def test_jobs_that_never_end(standin: Server, files: Files) -> None:
    for fault in ("job_stuck", "job_unknown_status"):
        standin.fault("did", fault)
    ids = [create(standin, audio_talk(files)).json()["id"] for _ in range(2)]
    time.sleep(0.6)

    assert [get(standin, f"/talks/{one}")["status"] for one in ids] == ["started", "harmonizing"]


def test_videos_that_are_wrong(standin: Server, files: Files, probed: Probe) -> None:
    standin.fault("did", "job_video_without_audio")
    silent = probed(standin.fetch(finished(standin, audio_talk(files))["result_url"]).content)
    standin.fault("did", "job_short_video")
    short = finished(standin, audio_talk(files))
    right = finished(standin, audio_talk(files))

    assert [stream["codec_type"] for stream in silent["streams"]] == ["video"]
    assert short["duration"] == pytest.approx(right["duration"] / 2, abs=0.1)


def test_in_strict_mode_everything_goes_by_https(
    standin_with: Callable[..., Server], certificate: Certificate, face: bytes, voice: bytes
) -> None:
    """The vendor's real rules: https sources, https webhook, https results, all over real TLS."""
    server = standin_with(
        certificate.client_context(),
        strict=True,
        tls_cert=certificate.cert,
        tls_key=certificate.key,
        fetch_ca_file=certificate.cert,
    )
    with file_place(certificate.server_context()) as files:
        files.content |= {"/face.png": face, "/voice.mp3": voice}
        body = audio_talk(files, webhook=f"{files.url}/hook")
        signed = {"type": "audio", "audio_url": f"{files.url}/voice.mp3{SIGV4}"}
        talk = finished(server, {**body, "script": signed})
        cloudfront = {"type": "audio", "audio_url": f"{files.url}/voice.mp3?Signature=ab~cd"}
        refused = [
            create(server, {**body, "source_url": body["source_url"].replace("https:", "http:")}),
            create(server, {**body, "webhook": "http://127.0.0.1:1/hook"}),
            create(server, {**body, "script": cloudfront}),
        ]
        heard = told(files, 1)

    assert talk["status"] == "done"
    assert talk["result_url"].startswith("https://")
    assert heard[0]["id"] == talk["id"]
    assert [answer.status_code for answer in refused] == [400, 400, 400]
    with server.http() as client:
        assert client.get(talk["result_url"]).status_code == 200
