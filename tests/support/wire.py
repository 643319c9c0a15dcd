"""Real processes for tests of runners and adapters: the vendor stand-in, an S3 server, and runners as Kubernetes starts them."""

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from pydantic import SecretStr

from renderfleet_cluster import debian, programs
from renderfleet_crds.contract import (
    TASK_ENV,
    AvatarParams,
    ExitCode,
    InputFile,
    OutputSlot,
    ProviderAccess,
    RecordUrls,
    StageParams,
    StageResult,
    Task,
    Vendor,
    VideoFinalizeParams,
    VideoStartParams,
    VoiceParams,
    pack_task,
)
from renderfleet_store.media import MediaStore, StorageSettings

BUCKET = "media"
KEYS = {Vendor.OPENAI: "sk-standin", Vendor.ELEVENLABS: "el-standin", Vendor.DID: "did-user:did-pass"}
LINK_SECONDS = 3600
VOICE_ID = "21m00Tcm4TlvDq8ikWAM"
VIDEO_LIMIT_BYTES = 500_000_000


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(answers: Any, what: str, seconds: float = 30) -> None:
    """Call `answers` until it is true. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if answers():
            return
        time.sleep(0.02)
    raise TimeoutError(f"{what}: not within {seconds} s")


@contextmanager
def running(command: list[str], log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone afterwards."""
    with log.open("wb") as target:
        process = subprocess.Popen(command, stdout=target, stderr=target, env={**os.environ, **(env or {})})
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Standin:
    """A stand-in that runs, and the handles of its control door."""

    def __init__(self, base_url: str, verify: ssl.SSLContext | bool = True) -> None:
        self.base_url = base_url
        self._http = httpx2.Client(base_url=base_url, timeout=30, verify=verify)

    def provider(self, vendor: Vendor, **changes: Any) -> ProviderAccess:
        """Access to one of its vendors; the key file is named like the vendor."""
        path = {"openai": "/openai/v1", "elevenlabs": "/elevenlabs", "did": "/did"}[vendor]
        made = ProviderAccess(
            name=vendor.value,
            vendor=vendor,
            base_url=self.base_url + path,
            key_file=vendor.value,
            call_timeout_seconds=60,
        )
        return made.model_copy(update=changes)

    def reset(self) -> None:
        """As new."""
        self._http.post("/_standin/reset").raise_for_status()

    def fault(self, vendor: str, operation: str, fault: str, **more: Any) -> None:
        """Script a fault."""
        rule = {"vendor": vendor, "operation": operation, "fault": fault, **more}
        response = self._http.post("/_standin/faults", json=rule)
        assert response.is_success, response.text

    def hits(self) -> int:
        """How many calls scripted faults have hit."""
        return sum(active["hit"] for active in self._http.get("/_standin/faults").json()["rules"])

    def latency(self, vendor: str, operation: str, ms: int) -> None:
        """Slow an operation down."""
        self._http.post(
            "/_standin/latency", json={"vendor": vendor, "operation": operation, "ms": ms}
        ).raise_for_status()

    @contextmanager
    def limited(self, name: str, limit: int) -> Iterator[None]:
        """With a rate limit of the account, which a reset would keep."""
        try:
            self._http.post("/_standin/limits", json={"name": name, "limit": limit}).raise_for_status()
            yield
        finally:
            self._http.post("/_standin/limits", json={"name": name, "limit": 0}).raise_for_status()

    def hold(self, vendor: str, operation: str, point: str) -> None:
        """Stop calls at a point."""
        wanted = {"vendor": vendor, "operation": operation, "point": point}
        self._http.post("/_standin/hold", json=wanted).raise_for_status()

    def waiting(self) -> int:
        """Calls that stand at a gate now."""
        return sum(len(gate["waiting"]) for gate in self._http.get("/_standin/hold").json())

    def release(self) -> None:
        """Let all go on."""
        self._http.post("/_standin/release").raise_for_status()

    def billed(self, vendor: str | None = None) -> list[dict[str, Any]]:
        """Ledger entries that were not refunded."""
        entries: list[dict[str, Any]] = self._http.get("/_standin/ledger").json()["entries"]
        return [e for e in entries if vendor in (None, e["vendor"]) and not e.get("refunded")]

    def calls(self, vendor: str, operation: str) -> list[dict[str, Any]]:
        """Calls of an operation, refused ones included."""
        listed: list[dict[str, Any]] = self._http.get(
            "/_standin/calls", params={"vendor": vendor, "operation": operation}
        ).json()["calls"]
        return listed


@contextmanager
def standin_process(
    folder: Path, *, scheme: str = "http", authority: Path | None = None, **settings: str
) -> Iterator[Standin]:
    """A stand-in of one's own; with a certificate in the settings, its scheme is https and its authority is to be named."""
    debian.install(debian.MEDIA_PACKAGES)
    verify = ssl.create_default_context(cafile=str(authority)) if authority else True
    port = free_port()
    env = {f"RENDERFLEET_STANDIN_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "renderfleet_standin", "--port", str(port), "--data", str(folder / "standin")]
    with running(command, folder / "standin.log", env) as process:
        base_url = f"{scheme}://127.0.0.1:{port}"

        def healthy() -> bool:
            assert process.poll() is None, (folder / "standin.log").read_text()
            try:
                return httpx2.get(f"{base_url}/healthz", verify=verify).is_success
            except httpx2.TransportError:
                return False

        wait_until(healthy, "the stand-in's start", 60)
        yield Standin(base_url, verify)


@dataclass
class ObjectStore:
    """An S3 server that runs, and the presigner that the operator uses."""

    endpoint: str
    media: MediaStore
    folder: Path

    def put(self, key: str, file: Path, content_type: str) -> None:
        """Store a file as the API's upload would have."""
        url = self.media.presign_put(key, LINK_SECONDS, content_type)
        httpx2.put(url, content=file.read_bytes(), headers={"content-type": content_type}).raise_for_status()

    def read(self, key: str) -> bytes | None:
        """An object's content."""
        response = httpx2.get(self.media.presign_get(key, LINK_SECONDS, "internal"))
        return response.content if response.is_success else None


@contextmanager
def object_store_process(folder: Path) -> Iterator[ObjectStore]:
    """versitygw on loopback."""
    programs.ensure([programs.VERSITYGW])
    binary = programs.VERSITYGW.path("versitygw")
    port = free_port()
    data = folder / "s3"
    (data / BUCKET).mkdir(parents=True)
    endpoint = f"http://127.0.0.1:{port}"
    command = [
        *(str(binary), "--access", "renderfleet", "--secret", "renderfleet-secret"),
        *("--port", f"127.0.0.1:{port}", "posix", str(data)),
    ]
    settings = StorageSettings(
        s3_endpoint=endpoint,
        s3_bucket=BUCKET,
        s3_access_key_id="renderfleet",
        s3_secret_access_key=SecretStr("renderfleet-secret"),
    )
    with running(command, folder / "s3.log"):
        media = MediaStore(settings)

        def healthy() -> bool:
            try:
                return httpx2.get(media.presign_get("none", 60, "internal")).status_code == 404
            except httpx2.TransportError:
                return False

        wait_until(healthy, "the S3 server's start")
        yield ObjectStore(endpoint, media, data / BUCKET)


@dataclass
class Ended:
    """A runner that has ended."""

    code: int
    result: StageResult | None
    """From the termination message; None when it was killed before it wrote one."""
    termination_message: str
    logs: str

    @property
    def exit_code(self) -> ExitCode:
        """As the contract names it."""
        return ExitCode(self.code)


@dataclass
class Runner:
    """A runner process that may still be at work."""

    process: subprocess.Popen[bytes]
    termination_path: Path
    log_path: Path

    def wait(self, seconds: float = 180) -> Ended:
        """Its end."""
        self.process.wait(seconds)
        message = self.termination_path.read_text() if self.termination_path.exists() else ""
        result = StageResult.model_validate_json(message) if message else None
        return Ended(self.process.returncode, result, message, self.log_path.read_text())

    def kill(self) -> None:
        """As the kernel's out-of-memory killer would."""
        self.process.kill()
        self.process.wait()

    def until_it_logs(self, text: str, seconds: float = 60) -> None:
        """Until its log holds `text`. Raises TimeoutError."""
        wait_until(lambda: text in self.log_path.read_text(), f"{text!r} in the runner's log", seconds)


@dataclass
class Bench:
    """Makes tasks as the operator would and starts runners on them."""

    folder: Path
    standin: Standin
    store: ObjectStore
    keys_folder: Path = field(init=False)
    _started: list[Runner] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys_folder = self.folder / "keys"
        self.keys_folder.mkdir()
        for vendor, key in KEYS.items():
            (self.keys_folder / vendor.value).write_text(key + "\n")

    def provider(self, vendor: Vendor, **changes: Any) -> ProviderAccess:
        """Access with a key file that exists."""
        options = {"lostJobSeconds": "1"} if vendor is Vendor.DID else {}
        given = {"key_file": str(self.keys_folder / vendor.value), "options": options, **changes}
        return self.standin.provider(vendor, **given)

    def slot(self, uid: str, name: str, content_type: str, max_bytes: int = 50_000_000) -> OutputSlot:
        """A place for an output."""
        suffix = {"image/png": "png", "image/jpeg": "jpg", "audio/mpeg": "mp3", "video/mp4": "mp4"}[content_type]
        key = f"media/tenant-a/{uid}/{name}.{suffix}"
        url = self.store.media.presign_put(key, LINK_SECONDS, content_type)
        return OutputSlot(name=name, key=key, put_url=url, content_type=content_type, max_bytes=max_bytes)

    def stored_input(self, name: str, file: Path, content_type: str, **changes: Any) -> InputFile:
        """An input in our storage."""
        suffix = {"image/png": "png", "image/jpeg": "jpg", "audio/mpeg": "mp3", "audio/wav": "wav"}[content_type]
        key = f"media/tenant-a/{uuid.uuid4().hex}.{suffix}"
        self.store.put(key, file, content_type)
        url = self.store.media.presign_get(key, LINK_SECONDS, "internal")
        made = InputFile(name=name, url=url, content_type=content_type, max_bytes=50_000_000)
        return made.model_copy(update=changes)

    def task(self, kind: str, params: StageParams, **more: Any) -> Task:
        """A first attempt; its record is its own."""
        uid = more.pop("uid", None) or str(uuid.uuid4())
        prefix = f"runs/{uid}/{params.stage.value}/0-1"
        put, get = self.store.media.presign_put, self.store.media.presign_get
        urls: dict[str, str] = {}
        for name in ("claim", "accepted", "result"):
            key = f"{prefix}/{name}.json"
            urls[f"{name}_put"] = put(key, LINK_SECONDS, "application/json", if_none_match=True)
            urls[f"{name}_get"] = get(key, LINK_SECONDS, "internal")
        given: dict[str, Any] = {
            "kind": kind,
            "namespace": "tenant-a",
            "name": "render-1",
            "uid": uid,
            "run": 0,
            "attempt": 1,
            "deadline_seconds": 120,
            "record": RecordUrls.model_validate(urls),
            "params": params,
        }
        return Task.model_validate({**given, **more})

    def avatar(self, count: int = 2, width_px: int = 1024, **more: Any) -> Task:
        """Pictures from a prompt."""
        uid = str(uuid.uuid4())
        params = AvatarParams(
            prompt=more.pop("prompt", f"a friendly guide {uid}"),
            count=count,
            width_px=width_px,
            height_px=1024,
            quality="low",
            background="auto",
            format="png",
        )
        slots = [self.slot(uid, f"image-{n}", "image/png") for n in range(1, count + 1)]
        slots += [self.slot(uid, f"thumbnail-{n}", "image/jpeg") for n in range(1, count + 1)]
        given: dict[str, Any] = {"provider": self.provider(Vendor.OPENAI), "outputs": slots, "uid": uid, **more}
        return self.task("AvatarRender", params, **given)

    def voice(self, text: str | None = None, prompt: str | None = None, **more: Any) -> Task:
        """Speech from a text or a prompt."""
        uid = str(uuid.uuid4())
        if text is None and prompt is None:
            text = f"Welcome to the harbour tour number {uid[:8]}. Please mind the step."
        params = VoiceParams(
            text=text,
            prompt=prompt,
            voice_id=more.pop("voice_id", VOICE_ID),
            model_id="eleven_multilingual_v2",
            output_format="mp3_44100_128",
            max_script_characters=more.pop("max_script_characters", 300),
        )
        given: dict[str, Any] = {
            "provider": self.provider(Vendor.ELEVENLABS),
            "script_provider": self.provider(Vendor.OPENAI) if prompt else None,
            "outputs": [self.slot(uid, "speech", "audio/mpeg")],
            "uid": uid,
            **more,
        }
        return self.task("VoiceJob", params, **given)

    def video_start(self, image: Path, audio: Path, **more: Any) -> Task:
        """A job at the vendor."""
        uid = str(uuid.uuid4())
        params = VideoStartParams(correlation=f"{uid}/0-1", stitch=more.pop("stitch", True))
        inputs = [
            self.stored_input("image", image, "image/png"),
            self.stored_input("audio", audio, "audio/mpeg"),
        ]
        given: dict[str, Any] = {"provider": self.provider(Vendor.DID), "inputs": inputs, "uid": uid, **more}
        return self.task("VideoRender", params, **given)

    def video_finalize(self, result_url: str, expected_seconds: float | None, **more: Any) -> Task:
        """The vendor's video, to be stored."""
        uid = str(uuid.uuid4())
        video = InputFile(
            name="video", url=result_url, content_type="video/mp4", max_bytes=VIDEO_LIMIT_BYTES, trusted=False
        )
        given: dict[str, Any] = {
            "provider": self.provider(Vendor.DID),
            "inputs": [video],
            "outputs": [self.slot(uid, "video", "video/mp4"), self.slot(uid, "poster", "image/jpeg")],
            "uid": uid,
            **more,
        }
        return self.task("VideoRender", VideoFinalizeParams(expected_seconds=expected_seconds), **given)

    def start(self, task: Task, **env: str) -> Runner:
        """A runner on this task, with nothing in its environment that a pod would not have."""
        termination_path = self.folder / f"termination-{uuid.uuid4().hex}"
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        log_path = self.folder / f"log-{uuid.uuid4().hex}"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "renderfleet_runners"],
                env={
                    "PATH": os.environ["PATH"],
                    "TMPDIR": str(work),
                    TASK_ENV: pack_task(task.model_dump_json(by_alias=True)),
                    "RENDERFLEET_TERMINATION_MESSAGE_PATH": str(termination_path),
                    **env,
                },
                stdout=log,
                stderr=log,
            )
        self._started.append(Runner(process, termination_path, log_path))
        return self._started[-1]

    def kill_all(self) -> None:
        """End runners that a failing test has left, or they would pay in the next one."""
        for runner in self._started:
            if runner.process.poll() is None:
                runner.kill()

    def run(self, task: Task, **env: str) -> Ended:
        """Start a runner and wait for its end."""
        return self.start(task, **env).wait()

    def record(self, task: Task, name: str) -> dict[str, Any] | None:
        """One object of the task's run record."""
        body = self.store.read(f"runs/{task.uid}/{task.stage.value}/0-1/{name}.json")
        return json.loads(body) if body is not None else None

    async def until_waiting(self, count: int = 1) -> None:
        """Until so many calls stand at a gate."""
        await asyncio.to_thread(wait_until, lambda: self.standin.waiting() >= count, "a call at the gate", 90)


def ffprobe(file: Path) -> dict[str, Any]:
    """Streams and format, by a program that is not ours."""
    tool = shutil.which("ffprobe")
    assert tool is not None
    out = subprocess.check_output([tool, "-v", "error", "-show_streams", "-show_format", "-of", "json", str(file)])
    found: dict[str, Any] = json.loads(out)
    return found
