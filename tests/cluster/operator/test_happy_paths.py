"""From applied to Succeeded, with the runner program itself at work against the vendors' stand-in; and what it costs."""

from pathlib import Path

from tests.support.node import real_runner

from renderfleet_crds import meta

from .conftest import Fleet, eventually


async def test_a_video_from_a_prompted_face_and_a_script(fleet: Fleet, tmp_path: Path) -> None:
    fleet.node.program = real_runner(fleet.cluster, tmp_path)
    await fleet.start()
    await fleet.apply(
        "VideoRender", "talk", avatarRef={"name": "face"}, script="Welcome aboard.", voiceId="21m00Tcm4TlvDq8ikWAM"
    )
    await fleet.apply("AvatarRender", "face", count=2)

    video = await fleet.until("VideoRender", "talk", "Succeeded", 120)

    assert [one["name"] for one in video["status"]["outputs"]] == ["video", "poster"]
    assert video["status"]["progress"] == 100
    stored = fleet.object_store.read(video["status"]["outputs"][0]["key"])
    assert stored is not None
    assert stored[4:8] == b"ftyp"
    assert len(fleet.standin.billed()) == 3


async def test_one_render_is_four_writes_and_no_more(fleet: Fleet) -> None:
    operator = await fleet.start()
    writes: list[str] = []

    def see(method: str, path: str) -> None:
        if "/namespaces/" in path:  # the tenant's and the provider's own status follow the clock, not this render
            writes.append(f"{method} {path.rsplit('/', maxsplit=1)[-1]}")

    operator.cluster.on_write = see
    made = await fleet.apply("VoiceJob", "hello")

    async def is_let_go() -> bool:
        one = await fleet.get("VoiceJob", "hello")
        return not one["metadata"].get("finalizers")

    await eventually(is_let_go)

    about_it = [one for one in writes if one in ("PATCH status", "POST jobs", "PATCH hello")]
    assert about_it == ["PATCH status", "POST jobs", "PATCH status", "PATCH hello"]
    one = await fleet.get("VoiceJob", "hello")
    assert meta.ARCHIVED_ANNOTATION in one["metadata"]["annotations"]
    assert fleet.node.stages(made["metadata"]["uid"]) == ["synthesize 0-1"]


async def test_what_kubectl_applies_without_a_finalizer_gets_one(fleet: Fleet) -> None:
    await fleet.start()
    await fleet.apply("AvatarRender", "face", finalizers=[])

    one = await fleet.until("AvatarRender", "face", lambda one: (one.get("status") or {}).get("phase") == "Running")

    assert one["metadata"]["finalizers"] == [meta.FINALIZER]


async def test_the_archive_has_the_end_before_the_object_is_let_go(fleet: Fleet) -> None:
    operator = await fleet.start()
    made = await fleet.apply("AvatarRender", "face")

    await fleet.until("AvatarRender", "face", lambda one: not one["metadata"].get("finalizers"))

    uid = made["metadata"]["uid"]
    assert await operator.archive.mirror.archived([uid]) == {uid}
