"""From applied to Succeeded, with the runner program itself at work against the vendors' stand-in."""

from pathlib import Path

from tests.support.node import real_runner

from .conftest import Fleet


async def test_a_video_from_a_prompted_face_and_a_script(fleet: Fleet, tmp_path: Path) -> None:
    fleet.node.program = real_runner(fleet.cluster, tmp_path)
    await fleet.start()
    await fleet.apply(
        "VideoRender", "talk", avatarRef={"name": "face"}, script="Welcome aboard.", voiceId="21m00Tcm4TlvDq8ikWAM"
    )
    await fleet.apply("AvatarRender", "face", count=2)

    video = await fleet.until("VideoRender", "talk", "Succeeded", 60)

    assert [one["name"] for one in video["status"]["outputs"]] == ["video", "poster"]
    assert video["status"]["progress"] == 100
    assert fleet.object_store.read(video["status"]["outputs"][0]["key"])[4:8] == b"ftyp"
    assert len(fleet.standin.billed()) == 3
