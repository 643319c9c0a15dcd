"""All four stages, one after the other, each on what the one before has made."""

import json
from pathlib import Path

from PIL import Image
from tests.support.wire import KEYS, Bench, ffprobe

from renderfleet_crds.contract import Charged, ExitCode, Vendor
from renderfleet_providers.ports import JobState, TalkingVideoMaker
from renderfleet_providers.registry import connect


async def test_from_prompt_to_talking_video(bench: Bench, tmp_path: Path) -> None:
    avatar_task = bench.avatar(count=2)
    avatar = bench.run(avatar_task)
    assert avatar.exit_code is ExitCode.DONE, avatar.logs
    assert avatar.result is not None
    assert [output.name for output in avatar.result.outputs] == ["image-1", "thumbnail-1", "image-2", "thumbnail-2"]
    assert avatar.result.charged is Charged.YES
    assert avatar.result.usage["images"] == 2
    image = _download(bench, avatar.result.outputs[0].key, tmp_path / "image.png")
    assert Image.open(image).size == (1024, 1024)
    assert max(Image.open(_download(bench, avatar.result.outputs[1].key, tmp_path / "small.jpg")).size) == 256

    voice_task = bench.voice(prompt="a tour of the harbour")
    voice = bench.run(voice_task)
    assert voice.exit_code is ExitCode.DONE, voice.logs
    assert voice.result is not None
    assert voice.result.script
    assert voice.result.usage["characters"] >= len(voice.result.script)
    assert voice.result.usage["scriptOutputTokens"] > 0
    speech = voice.result.outputs[0]
    audio = _download(bench, speech.key, tmp_path / "speech.mp3")
    assert speech.duration_seconds is not None
    assert abs(float(ffprobe(audio)["format"]["duration"]) - speech.duration_seconds) < 0.2
    assert speech.loudness_lufs is not None
    assert -50 < speech.loudness_lufs < 0

    start_task = bench.video_start(image, audio)
    start = bench.run(start_task)
    assert start.exit_code is ExitCode.DONE, start.logs
    assert start.result is not None
    assert start.result.vendor_job_id
    assert bench.record(start_task, "accepted") == {
        "vendorJobId": start.result.vendor_job_id,
        "acceptedAt": bench.record(start_task, "accepted")["acceptedAt"],  # type: ignore[index]
    }

    access = bench.provider(Vendor.DID)
    adapter = connect("did", access.base_url, KEYS[Vendor.DID])
    assert isinstance(adapter, TalkingVideoMaker)
    job = await adapter.look(start.result.vendor_job_id)
    while job.state is JobState.WORKING:
        job = await adapter.look(start.result.vendor_job_id)
    assert job.state is JobState.DONE
    assert job.result_url is not None
    found = await adapter.look_up(f"{start_task.uid}/0-1")
    assert found is not None
    assert found.job_id == job.job_id
    await adapter.aclose()

    finalize_task = bench.video_finalize(job.result_url, speech.duration_seconds)
    finalize = bench.run(finalize_task)
    assert finalize.exit_code is ExitCode.DONE, finalize.logs
    assert finalize.result is not None
    video = finalize.result.outputs[0]
    seen = ffprobe(_download(bench, video.key, tmp_path / "video.mp4"))
    assert {stream["codec_name"] for stream in seen["streams"]} == {"h264", "aac"}
    assert abs(float(seen["format"]["duration"]) - speech.duration_seconds) < 0.2
    assert Image.open(_download(bench, finalize.result.outputs[1].key, tmp_path / "poster.jpg")).size == (
        video.width_px,
        video.height_px,
    )
    for task, ended in ((avatar_task, avatar), (voice_task, voice), (start_task, start), (finalize_task, finalize)):
        assert bench.record(task, "result") == json.loads(
            ended.result.model_dump_json(by_alias=True, exclude_none=True)  # type: ignore[union-attr]
        )
    assert [entry["vendor"] for entry in bench.standin.billed()] == ["openai", "openai", "elevenlabs", "did"]


def _download(bench: Bench, key: str, file: Path) -> Path:
    content = bench.store.read(key)
    assert content is not None
    file.write_bytes(content)
    return file
