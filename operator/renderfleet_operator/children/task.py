"""Make the Task of one stage attempt: all that a runner gets to know. Pure; signing is a function that comes in.

The dict made here is the JSON form of `renderfleet_crds.contract.Task`; a test holds the two together, so that the hot
path need not build the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Literal, Protocol, assert_never

from renderfleet_crds import meta
from renderfleet_crds.contract import VENDOR_KEY_DIR, Stage
from renderfleet_crds.kinds import BY_KIND
from renderfleet_operator.decide.view import Body, Render

MEGABYTE: Final = 1_000_000
PICTURE_MAX_BYTES: Final = 50 * MEGABYTE
THUMBNAIL_MAX_BYTES: Final = 2 * MEGABYTE
SPEECH_MAX_BYTES: Final = 60 * MEGABYTE
"""Ten minutes at 192 kbit/s are 14 MB; long texts are joined from several calls."""
VIDEO_MAX_BYTES: Final = 2_000 * MEGABYTE
RECORDING_MAX_BYTES: Final = 15 * MEGABYTE
"""D-ID reads no longer recordings (talks: 15 MB)."""
OVERHEAD_SECONDS: Final = 120.0
"""For reading inputs, storing outputs and ffmpeg, besides the paid calls themselves."""

_CONTENT_TYPES: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".mp4": "video/mp4",
}


class Sign(Protocol):
    """Makes addresses that carry their own permission."""

    def put(self, key: str, content_type: str | None = None, *, once: bool = False) -> str:
        """Where `key` may be written; `once` lets the first writer win."""
        ...

    def get(self, key: str, audience: Literal["internal", "vendor"] = "internal") -> str:
        """Where `key` may be read."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """What a task is made from besides the render."""

    providers: Mapping[str, Mapping[str, Any]]
    """Specs of the RenderProviders by name."""
    result_url: str | None = None
    """FINALIZE: where the vendor's video is."""
    callback_url: str | None = None
    """START: where the vendor may say that it is done."""


def calls_vendor(stage: Stage) -> bool:
    """True when the stage's pod needs the vendor's key."""
    return stage in (Stage.GENERATE, Stage.SYNTHESIZE, Stage.START)


def deadline_seconds(render: Render, stage: Stage, sources: Sources) -> float:
    """How long the runner may take, from its start."""
    if not calls_vendor(stage):
        return OVERHEAD_SECONDS + 480
    calls = sum(float(sources.providers[name].get("callTimeoutSeconds", 300)) for name in render.providers)
    return OVERHEAD_SECONDS + calls


def build_task(render: Render, stage: Stage, number: int, sources: Sources, sign: Sign) -> Body:
    """The Task as JSON. Raises KeyError for a provider that `sources` does not have."""
    record = meta.run_prefix(render.uid, stage.value, render.run, number)
    task: Body = {
        "contract": 1,
        "kind": render.kind,
        "namespace": render.namespace,
        "name": render.name,
        "uid": render.uid,
        "run": render.run,
        "attempt": number,
        "deadlineSeconds": deadline_seconds(render, stage, sources),
        "record": {
            f"{part}{verb}": (
                sign.put(f"{record}{part}.json", "application/json", once=True)
                if verb == "Put"
                else sign.get(f"{record}{part}.json")
            )
            for part in ("claim", "accepted", "result")
            for verb in ("Put", "Get")
        },
    }
    if render.status.get("traceId"):
        task["traceId"] = render.status["traceId"]
    if calls_vendor(stage):
        task["provider"] = _access(render.provider, sources)
        if len(render.providers) > 1:
            task["scriptProvider"] = _access(render.providers[1], sources)
    media = f"{meta.media_prefix(render.namespace)}{BY_KIND[render.kind].plural}/{render.uid}/{render.run}-{number}/"
    match stage:
        case Stage.GENERATE:
            _generate(task, render, media, sign)
        case Stage.SYNTHESIZE:
            _synthesize(task, render, media, sign)
        case Stage.START:
            _start(task, render, number, sources, sign)
        case Stage.FINALIZE:
            _finalize(task, render, media, sources, sign)
        case Stage.POLL:
            raise ValueError("the operator polls by itself: that stage has no runner")
        case unknown:
            assert_never(unknown)
    return task


def _access(name: str, sources: Sources) -> Body:
    spec = sources.providers[name]
    return {
        "name": name,
        "vendor": spec["vendor"],
        "baseUrl": spec["baseUrl"],
        "keyFile": f"{VENDOR_KEY_DIR}/{name}",
        "options": spec.get("options") or {},
        "callTimeoutSeconds": spec.get("callTimeoutSeconds", 300),
    }


def _slot(name: str, key: str, max_bytes: int, sign: Sign) -> Body:
    content_type = content_type_of(key)
    return {
        "name": name,
        "key": key,
        "putUrl": sign.put(key, content_type),
        "contentType": content_type,
        "maxBytes": max_bytes,
    }


def _input(name: str, key: str, max_bytes: int, sign: Sign, *, for_vendor: bool = False) -> Body:
    made = {"name": name, "url": sign.get(key), "contentType": content_type_of(key), "maxBytes": max_bytes}
    if for_vendor:
        made["vendorUrl"] = sign.get(key, "vendor")
    return made


def content_type_of(key: str) -> str:
    """By the file's ending, as our own keys always have one; binary for any other."""
    return _CONTENT_TYPES.get(PurePosixPath(key).suffix.lower(), "application/octet-stream")


def _generate(task: Body, render: Render, media: str, sign: Sign) -> None:
    spec = render.spec
    width, height = str(spec.get("size", "1024x1024")).split("x")
    count = int(spec.get("count", 4))
    kind = spec.get("format", "png")
    ending = "jpg" if kind == "jpeg" else kind
    task["params"] = {
        "stage": Stage.GENERATE.value,
        "prompt": spec["prompt"],
        "count": count,
        "widthPx": int(width),
        "heightPx": int(height),
        "quality": spec.get("quality", "medium"),
        "background": spec.get("background", "auto"),
        "format": kind,
    }
    task["outputs"] = [
        slot
        for at in range(1, count + 1)
        for slot in (
            _slot(f"image-{at}", f"{media}image-{at}.{ending}", PICTURE_MAX_BYTES, sign),
            _slot(f"thumbnail-{at}", f"{media}thumbnail-{at}.jpg", THUMBNAIL_MAX_BYTES, sign),
        )
    ]
    if spec.get("baseImageKey"):
        task["inputs"] = [_input("base", spec["baseImageKey"], PICTURE_MAX_BYTES, sign)]


def _synthesize(task: Body, render: Render, media: str, sign: Sign) -> None:
    spec = render.spec
    # A script that an earlier attempt wrote is paid: it is spoken, not written again.
    text = spec.get("text") or render.status.get("script")
    params = {
        "stage": Stage.SYNTHESIZE.value,
        "text": text,
        "prompt": None if text else spec.get("prompt"),
        "voiceId": spec["voiceId"],
        "modelId": spec.get("modelId", "eleven_multilingual_v2"),
        "outputFormat": spec.get("outputFormat", "mp3_44100_128"),
        "languageCode": spec.get("languageCode"),
        "seed": spec.get("seed"),
        **(spec.get("settings") or {}),
    }
    task["params"] = {key: value for key, value in params.items() if value is not None}
    task["outputs"] = [_slot("speech", f"{media}speech.mp3", SPEECH_MAX_BYTES, sign)]


def _start(task: Body, render: Render, number: int, sources: Sources, sign: Sign) -> None:
    status, spec = render.status, render.spec
    task["params"] = {
        "stage": Stage.START.value,
        "correlation": correlation(render.uid, render.run, number),
        "stitch": spec.get("stitch", True),
        "resultFormat": "mp4",
    }
    if sources.callback_url:
        task["params"]["callbackUrl"] = sources.callback_url
    inputs = [_input("image", status["avatarKey"], PICTURE_MAX_BYTES, sign, for_vendor=True)]
    if status.get("audioKey"):
        inputs.append(_input("audio", status["audioKey"], RECORDING_MAX_BYTES, sign, for_vendor=True))
    else:
        # The user's address is never handed on: the runner fetches it guarded and checks what it got.
        url = spec["audioUrl"]
        inputs.append(
            {
                "name": "audio",
                "url": url,
                "contentType": content_type_of(url.split("?")[0]),
                "maxBytes": RECORDING_MAX_BYTES,
                "trusted": False,
            }
        )
    task["inputs"] = inputs


def _finalize(task: Body, render: Render, media: str, sources: Sources, sign: Sign) -> None:
    if sources.result_url is None:
        raise ValueError("the vendor's video has no address yet")
    # The vendor's storage need not be the vendor's API, so its address is checked like any stranger's; the adapter's
    # base URL goes along, because an administrator vouches for that one.
    task["provider"] = _access(render.provider, sources)
    task["params"] = {"stage": Stage.FINALIZE.value}
    if render.status.get("audioSeconds") is not None:
        task["params"]["expectedSeconds"] = render.status["audioSeconds"]
    task["inputs"] = [
        {
            "name": "video",
            "url": sources.result_url,
            "contentType": "video/mp4",
            "maxBytes": VIDEO_MAX_BYTES,
            "trusted": False,
        }
    ]
    task["outputs"] = [
        _slot("video", f"{media}video.mp4", VIDEO_MAX_BYTES, sign),
        _slot("poster", f"{media}poster.jpg", PICTURE_MAX_BYTES, sign),
    ]


def correlation(uid: str, run: int, number: int) -> str:
    """What the vendor echoes back: by it a job is found whose id was lost."""
    return f"{uid}/{run}-{number}"
