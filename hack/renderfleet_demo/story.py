"""The main job, as a client does it: a face, a voice, a talking video; all through REST, nothing but REST."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from renderfleet_cluster.say import Trouble, line

TENANT = "demo"
AVATAR_PROMPT = "A friendly harbour guide in a blue jacket, portrait, soft morning light, looking into the camera"
VOICE_PROMPT = "A warm welcome of two sentences for visitors of an old harbour"
VOICE_ID = "21m00Tcm4TlvDq8ikWAM"
WITHIN_SECONDS = 0.2
"""How far the video's length may be from the voice's."""

Job = dict[str, Any]


class Client:
    """The REST API with one key."""

    def __init__(self, base_url: str, key: str) -> None:
        self.http = httpx2.Client(base_url=base_url, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, ok: tuple[int, ...] = ()) -> Any:
        """The answer's JSON. Raises Trouble with the problem's own words."""
        answer = self.http.request(method, path, json=body)
        if answer.is_success or answer.status_code in ok:
            return answer.json() if answer.content else None
        problem = answer.json() if "json" in answer.headers.get("content-type", "") else {"detail": answer.text[:300]}
        raise Trouble(
            f"{method} {path}: {answer.status_code} {problem.get('title', '')} {problem.get('detail', '')} "
            f"{json.dumps(problem.get('errors', ''))}",
            "see what the API says: kubectl -n renderfleet-system logs deployment/renderfleet-api",
        )

    def watch(self, job: Job) -> Job:
        """Print each change of a job until its end; the job as it is then. Raises Trouble when it did not succeed."""
        latest = job
        shown = ""
        for latest in self._changes(job["id"]):
            text = f"{latest['kind']} {latest['name']}: {latest['status']} {latest.get('progress') or 0:>3} %"
            if latest.get("reason"):
                text += f"  {latest['reason']}"
            if text != shown:
                line("  " + text)
            shown = text
        if latest["status"] != "Succeeded":
            raise Trouble(
                f"{latest['kind']} {latest['name']} ended as {latest['status']}: {json.dumps(latest.get('error'))}",
                f"kubectl -n rf-{TENANT} describe {latest['kind'].lower()} {latest['name']}",
            )
        return latest

    def _changes(self, job_id: str) -> Iterator[Job]:
        """Each state of the job, by server-sent events; after a broken connection on from the last one seen."""
        last_id = ""
        until = time.monotonic() + 600
        while time.monotonic() < until:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
            try:
                with self.http.stream("GET", f"/jobs/{job_id}/events", headers=headers, timeout=90) as stream:
                    for event_id, data in _events(stream.iter_lines()):
                        last_id = event_id or last_id
                        yield data
                        if data.get("finishedAt"):
                            return
            except httpx2.TransportError:
                time.sleep(0.5)
        raise Trouble(f"job {job_id} did not end within ten minutes", f"kubectl -n rf-{TENANT} get renderfleet -o wide")


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Job]]:
    event_id, data = "", ""
    for text in lines:
        name, _, value = text.partition(":")
        match name, value.removeprefix(" "):
            case "id", given:
                event_id = given
            case "data", given:
                data += given
            case "", "" if not text:
                if data:
                    yield event_id, json.loads(data)
                event_id, data = "", ""


def tell(base_url: str, admin_key: str, out: Path) -> Path:
    """Make the video and return where it is. Raises Trouble, with what to do, when any step fails."""
    admin = Client(base_url, admin_key)
    line("a tenant and its key")
    admin.call("POST", "/admin/tenants", {"name": TENANT, "displayName": "Demo", "concurrency": 4}, ok=(409,))
    key = admin.call("POST", f"/admin/tenants/{TENANT}/keys", {"name": f"demo-{int(time.time())}"})["key"]
    client = Client(base_url, key)

    line("four previews of an avatar")
    previews = client.watch(client.call("POST", "/avatars/previews", {"prompt": AVATAR_PROMPT, "count": 4}))
    line("saving the second one as the preferred avatar")
    avatar = client.call(
        "POST", "/avatars", {"jobId": previews["id"], "index": 2, "name": "Harbour guide", "preferred": True}
    )

    line("a voice, its script written from a prompt")
    voice = client.watch(client.call("POST", "/voice", {"prompt": VOICE_PROMPT, "voiceId": VOICE_ID}))

    line("the talking video")
    video = client.watch(client.call("POST", "/videos", {"avatarId": avatar["id"], "voiceJobId": voice["id"]}))

    target = out / "talking-avatar.mp4"
    download(video["resultUrl"], target)
    speech = next(one for one in voice["outputs"] if one["name"] == "speech")
    check(target, speech["durationSeconds"])
    print("\nThe jobs, as the API shows them:")
    for job in client.call("GET", "/jobs?limit=5")["items"]:
        print(f"  {job['id']}  {job['kind']:<13} {job['status']:<10} {job.get('progress') or 0:>3} %  {job['name']}")
    return target


def download(url: str, target: Path) -> None:
    """Fetch a signed link to a file, straight from storage."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with httpx2.stream("GET", url, timeout=60) as answer:
        if not answer.is_success:
            answer.read()
            raise Trouble(
                f"the signed link answered {answer.status_code}: {answer.text[:300]}", "is the storage forwarded?"
            )
        with target.open("wb") as file:
            for chunk in answer.iter_bytes():
                file.write(chunk)


def check(video: Path, speech_seconds: float) -> None:
    """Raise Trouble unless the file holds h264 and aac and is as long as the speech."""
    ffprobe = shutil.which("ffprobe")
    if ffprobe is None:
        raise Trouble("ffprobe is missing", "apt-get install ffmpeg")
    probed = json.loads(
        subprocess.run(
            [ffprobe, "-v", "error", "-of", "json", "-show_entries", "format=duration:stream=codec_name", str(video)],
            capture_output=True, text=True, check=True,
        ).stdout
    )  # fmt: skip
    codecs = {stream["codec_name"] for stream in probed["streams"]}
    seconds = float(probed["format"]["duration"])
    if codecs != {"h264", "aac"}:
        raise Trouble(f"{video} holds {sorted(codecs)}, not h264 and aac", "look at it with ffprobe")
    if abs(seconds - speech_seconds) > WITHIN_SECONDS:
        raise Trouble(f"{video} lasts {seconds:.2f} s, the voice {speech_seconds:.2f} s", "look at both with ffprobe")
    line(f"{video}: h264 + aac, {seconds:.2f} s (the voice: {speech_seconds:.2f} s), {video.stat().st_size} bytes")
