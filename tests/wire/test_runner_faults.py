"""Storage that loses and refuses, vendors that send rubbish, inputs from an enemy: what the runner then says and pays."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.support.decoy import decoy
from tests.support.flaky import Fault, FlakyProxy, flaky_proxy
from tests.support.wire import KEYS, Bench, Ended, ObjectStore, ffprobe, standin_process

from renderfleet_crds.contract import Charged, ErrorCategory, ExitCode, InputFile, Task, Vendor
from renderfleet_providers.ports import JobState, TalkingVideoMaker
from renderfleet_providers.registry import connect

Files = tuple[Path, Path]


@pytest.fixture
def proxy(store: ObjectStore) -> Iterator[FlakyProxy]:
    with flaky_proxy(store.endpoint) as proxy:
        yield proxy


def by_way_of(proxy: FlakyProxy, task: Task) -> Task:
    """The same task, its storage behind the proxy."""
    record = {name: proxy.through(url) for name, url in task.record.model_dump().items()}
    outputs = [slot.model_copy(update={"put_url": proxy.through(slot.put_url)}) for slot in task.outputs]
    return task.model_copy(update={"record": task.record.model_copy(update=record), "outputs": outputs})


def assert_ended(ended: Ended, code: ExitCode, category: ErrorCategory, charged: Charged, reason: str = "") -> None:
    assert ended.exit_code is code, ended.logs
    assert ended.result is not None
    assert (ended.result.category, ended.result.charged) == (category, charged)
    assert reason in (ended.result.code or "")


@pytest.mark.parametrize("name", ["claim.json", "accepted.json", "result.json", "image-1.png", "thumbnail-1.jpg"])
@pytest.mark.parametrize("fault", ["503", "lost request", "lost answer"])
def test_storage_that_fails_a_few_times_costs_nothing(bench: Bench, proxy: FlakyProxy, name: str, fault: Fault) -> None:
    task = bench.avatar(count=1)
    proxy.fail(f"/{name}", fault, times=2)
    ended = bench.run(by_way_of(proxy, task))
    assert ended.exit_code is ExitCode.DONE, ended.logs
    assert ended.result is not None
    assert [output.name for output in ended.result.outputs] == ["image-1", "thumbnail-1"]
    assert bench.record(task, "result") is not None
    assert bench.record(task, "accepted") is not None
    assert len(bench.standin.billed()) == 1


def test_a_claim_whose_answer_was_lost_is_known_as_ones_own(bench: Bench, proxy: FlakyProxy) -> None:
    task = bench.voice()
    proxy.fail("/claim.json", "lost answer")
    ended = bench.run(by_way_of(proxy, task))
    assert ended.exit_code is ExitCode.DONE, ended.logs
    assert sum("PUT" in line and "claim.json" in line for line in proxy.seen) == 2
    assert len(bench.standin.billed()) == 1


def test_storage_that_stays_away_loses_the_file_but_not_the_truth(bench: Bench, proxy: FlakyProxy) -> None:
    task = bench.voice(deadline_seconds=20)
    proxy.fail("/speech.mp3", "503", times=10_000)
    ended = bench.run(by_way_of(proxy, task))
    assert_ended(ended, ExitCode.BROKE, ErrorCategory.INTERNAL, Charged.YES)
    assert bench.record(task, "result") is not None
    assert len(bench.standin.billed()) == 1


def test_links_that_have_expired_are_not_hammered(bench: Bench, proxy: FlakyProxy) -> None:
    task = bench.voice()
    proxy.fail("/claim.json", "403", times=10_000)
    ended = bench.run(by_way_of(proxy, task))
    assert_ended(ended, ExitCode.BROKE, ErrorCategory.INTERNAL, Charged.NO, "storage_refused")
    assert bench.standin.billed() == []


@pytest.mark.parametrize(
    ("fault", "reason"), [("200_not_a_picture", "picture_"), ("200_wrong_size", "picture_wrong_size")]
)
def test_pictures_that_are_none(bench: Bench, fault: str, reason: str) -> None:
    bench.standin.fault("openai", "images.generations", fault)
    ended = bench.run(bench.avatar(count=1))
    assert_ended(ended, ExitCode.BROKE, ErrorCategory.OUTAGE, Charged.YES, reason)
    assert ended.result is not None
    assert ended.result.retry_limit == 1
    assert ended.result.usage["images"] == 1, "what was paid is told even though it is of no use"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("200_short_audio", "speech_cut_off"),
        ("200_silent_audio", "speech_silent"),
        ("200_not_audio", "speech_"),
        ("bad_json", "speech_cut_off"),
    ],
)
def test_speech_that_is_none(bench: Bench, fault: str, reason: str) -> None:
    text = "Welcome to the harbour. Please mind the step, hold on to the rail and enjoy the view of the old town."
    bench.standin.fault("elevenlabs", "text-to-speech", fault)
    ended = bench.run(bench.voice(text=text))
    assert_ended(ended, ExitCode.BROKE, ErrorCategory.OUTAGE, Charged.YES, reason)


@pytest.mark.parametrize(
    ("fault", "reason"), [("200_silent_audio", "speech_silent"), ("200_short_audio", "speech_cut_off")]
)
def test_one_bad_part_spoils_a_long_speech(bench: Bench, fault: str, reason: str) -> None:
    """Between two good ones it would hardly change the whole's length, and nothing of its loudest sound."""
    text = "Welcome to the harbour. Please mind the step. Hold on to the rail. Enjoy the view of the old town."
    access = bench.provider(Vendor.ELEVENLABS, options={"maxCharacters": "30"})
    bench.standin.fault("elevenlabs", "text-to-speech", fault, skip=1)
    ended = bench.run(bench.voice(text=text, provider=access))
    assert_ended(ended, ExitCode.BROKE, ErrorCategory.OUTAGE, Charged.YES, reason)
    assert len(bench.standin.billed("elevenlabs")) > 3


def test_a_speech_that_is_sent_again_has_the_same_seed(bench: Bench) -> None:
    """So that what comes of it is what was lost, as far as the vendor can; another render shall sound another."""
    bench.standin.fault("elevenlabs", "text-to-speech", "500_internal_error")
    first = bench.voice()
    again = first.model_copy(update={"attempt": 2, "record": bench.voice().record})
    other, chosen = bench.voice(), bench.voice()
    chosen = chosen.model_copy(update={"params": chosen.params.model_copy(update={"seed": 7})})
    codes = [bench.run(task).exit_code for task in (first, again, other, chosen)]
    assert codes == [ExitCode.BROKE, ExitCode.DONE, ExitCode.DONE, ExitCode.DONE]
    lost, resent, different, wanted = [call["seed"] for call in bench.standin.calls("elevenlabs", "text-to-speech")]
    assert lost == resent
    assert lost not in (None, different)
    assert wanted == 7


def test_a_refused_speech_keeps_the_paid_script(bench: Bench) -> None:
    bench.standin.fault("elevenlabs", "text-to-speech", "404_voice_not_found")
    ended = bench.run(bench.voice(prompt="a tour of the harbour"))
    assert_ended(ended, ExitCode.REFUSED, ErrorCategory.USER, Charged.YES, "voice_not_found")
    assert ended.result is not None
    assert ended.result.script
    assert ended.result.usage["scriptOutputTokens"] > 0
    assert ended.result.failed_provider is None


def test_a_failed_script_names_its_vendor_and_not_the_one_that_was_to_speak(bench: Bench) -> None:
    bench.standin.fault("openai", "responses", "401_invalid_api_key")
    task = bench.voice(prompt="a tour of the harbour")

    ended = bench.run(task)

    assert_ended(ended, ExitCode.BROKE, ErrorCategory.CREDENTIAL, Charged.NO)
    assert ended.result is not None and task.script_provider is not None
    assert ended.result.failed_provider == task.script_provider.name


def test_a_long_script_goes_to_the_record(bench: Bench) -> None:
    ended = bench.run(bench.voice(prompt="a very long tour of the harbour", max_script_characters=6000))
    assert ended.exit_code is ExitCode.DONE, ended.logs
    assert len(ended.termination_message.encode()) <= 4096


def test_a_long_text_becomes_one_recording(bench: Bench) -> None:
    text = " ".join(f"This is sentence number {number} of the long tour." for number in range(12))
    access = bench.provider(Vendor.ELEVENLABS, options={"maxCharacters": "150"})
    ended = bench.run(bench.voice(text=text, provider=access))
    assert ended.exit_code is ExitCode.DONE, ended.logs
    assert ended.result is not None
    assert len(bench.standin.billed("elevenlabs")) > 3
    assert ended.result.outputs[0].duration_seconds is not None
    assert ended.result.outputs[0].duration_seconds > len(text) / 25


async def result_url(bench: Bench, files: Files, fault: str | None) -> tuple[str, float]:
    """Link and length of a finished job's video."""
    if fault:
        bench.standin.fault("did", "talks.create", fault)
    started = bench.run(bench.video_start(*files))
    assert started.result is not None, started.logs
    adapter = connect("did", bench.provider(Vendor.DID).base_url, KEYS[Vendor.DID])
    assert isinstance(adapter, TalkingVideoMaker)
    job = await adapter.look(started.result.vendor_job_id or "")
    while job.state is JobState.WORKING:
        await asyncio.sleep(0.1)
        job = await adapter.look(job.job_id)
    await adapter.aclose()
    assert job.result_url is not None
    assert job.result_seconds is not None
    return job.result_url, job.result_seconds


@pytest.mark.parametrize(
    ("fault", "category", "reason"),
    [
        ("job_video_without_audio", ErrorCategory.OUTAGE, "video_wrong_streams"),
        ("job_short_video", ErrorCategory.OUTAGE, "video_wrong_length"),
        ("job_expired_result", ErrorCategory.TRANSIENT, "link_expired"),
    ],
)
async def test_videos_that_are_none(
    bench: Bench, talk_files: Files, fault: str, category: ErrorCategory, reason: str
) -> None:
    url, _ = await result_url(bench, talk_files, fault)
    spoken = float(ffprobe(talk_files[1])["format"]["duration"])
    ended = bench.run(bench.video_finalize(url, spoken))
    assert_ended(ended, ExitCode.BROKE, category, Charged.NO, reason)


@pytest.mark.parametrize("fault", ["truncate", "hang", "slow_drip", "reset_before_send", "html_502"])
async def test_a_video_that_does_not_arrive(bench: Bench, talk_files: Files, fault: str) -> None:
    url, seconds = await result_url(bench, talk_files, None)
    bench.standin.fault("did", "results", fault, seconds=60, interval_ms=2000)
    ended = bench.run(bench.video_finalize(url, seconds, deadline_seconds=12))
    assert_ended(ended, ExitCode.BROKE, ErrorCategory.TRANSIENT, Charged.NO)
    again = bench.run(bench.video_finalize(url, seconds))
    assert again.exit_code is ExitCode.DONE, again.logs


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/x.mp4",
        "https://127.0.0.1:{port}/x.mp4",
        "https://localhost/x.mp4",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:127.0.0.1]/x.mp4",
        "file:///etc/passwd",
    ],
)
async def test_a_result_link_that_leads_inside_is_not_followed(bench: Bench, url: str) -> None:
    async with decoy() as inside:
        ended = await asyncio.to_thread(bench.run, bench.video_finalize(url.format(port=inside.port), 1.0))
    # It is the vendor's link: the user can do nothing about it.
    assert_ended(ended, ExitCode.BROKE, ErrorCategory.OUTAGE, Charged.NO)
    assert inside.connections == 0


async def test_a_users_link_may_not_lead_where_only_the_vendors_may(bench: Bench, talk_files: Files) -> None:
    """A vendor that is reached inside the cluster is trusted to link to itself; a user is not trusted to link to it."""
    async with decoy() as vendors:
        origin = f"http://127.0.0.1:{vendors.port}"
        task = bench.video_start(*talk_files, provider=bench.provider(Vendor.DID, base_url=f"{origin}/did"))
        link = InputFile(
            name="audio", url=f"{origin}/a.mp3", content_type="audio/mpeg", max_bytes=15_000_000, trusted=False
        )
        inside = task.model_copy(update={"inputs": [task.inputs[0], link]})
        ended = await asyncio.to_thread(bench.run, inside)
    assert_ended(ended, ExitCode.REFUSED, ErrorCategory.USER, Charged.NO, "scheme_refused")
    assert vendors.connections == 0


async def test_finalize_twice_at_once_stores_one_truth(bench: Bench, talk_files: Files) -> None:
    url, seconds = await result_url(bench, talk_files, None)
    task = bench.video_finalize(url, seconds)
    both = [bench.start(task), bench.start(task)]
    ended = await asyncio.gather(*(asyncio.to_thread(runner.wait) for runner in both))
    assert [one.exit_code for one in ended] == [ExitCode.DONE, ExitCode.DONE], [one.logs for one in ended]
    assert ended[0].result == ended[1].result


def hostile(name: str, folder: Path, files: Files) -> Path:
    """An input that no vendor shall see."""
    file = folder / f"{name}.bin"
    match name:
        case "svg":
            file.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        case "tiny picture":
            Image.new("RGB", (100, 100)).save(file, "PNG")
        case "huge picture":
            Image.new("1", (4000, 2700)).save(file, "PNG")
        case "cut-off picture":
            file.write_bytes(files[0].read_bytes()[:5000])
        case "playlist":
            file.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
        case "silence":
            file.write_bytes(b"RIFF" + (36 + 88200).to_bytes(4, "little") + b"WAVEfmt " + WAV_FORMAT + bytes(88200))
        case "picture as sound":
            file.write_bytes(files[0].read_bytes())
    return file


WAV_FORMAT = bytes.fromhex("100000000100010044ac00008858010002001000") + b"data" + (88200).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("svg", "image_unknown_format"),
        ("tiny picture", "image_too_small"),
        ("huge picture", "image_too_many_pixels"),
        ("cut-off picture", "image_unreadable"),
        ("playlist", "audio_unknown_format"),
        ("silence", "audio_silent"),
        ("picture as sound", "audio_unknown_format"),
    ],
)
def test_hostile_inputs_are_refused_before_anything_is_paid(
    bench: Bench, talk_files: Files, tmp_path: Path, name: str, reason: str
) -> None:
    bad = hostile(name, tmp_path, talk_files)
    image, audio = (bad, talk_files[1]) if reason.startswith("image") else (talk_files[0], bad)
    ended = bench.run(bench.video_start(image, audio))
    assert_ended(ended, ExitCode.REFUSED, ErrorCategory.USER, Charged.NO, reason)
    assert bench.standin.calls("did", "talks.create") == []


def test_a_users_audio_link_that_leads_inside_is_refused(bench: Bench, talk_files: Files) -> None:
    task = bench.video_start(*talk_files)
    link = InputFile(
        name="audio", url="https://10.0.0.1/a.mp3", content_type="audio/mpeg", max_bytes=15_000_000, trusted=False
    )
    ended = bench.run(task.model_copy(update={"inputs": [task.inputs[0], link]}))
    assert_ended(ended, ExitCode.REFUSED, ErrorCategory.USER, Charged.NO, "address_not_public")
    assert bench.standin.calls("did", "talks.create") == []


def test_an_input_that_is_too_large_is_refused(bench: Bench, talk_files: Files) -> None:
    task = bench.video_start(*talk_files)
    small = task.inputs[0].model_copy(update={"max_bytes": 1000})
    ended = bench.run(task.model_copy(update={"inputs": [small, task.inputs[1]]}))
    assert_ended(ended, ExitCode.REFUSED, ErrorCategory.USER, Charged.NO, "input_too_large")


def test_a_provider_that_cannot_is_the_wrong_one(bench: Bench) -> None:
    ended = bench.run(bench.avatar(provider=bench.provider(Vendor.DID)))
    assert_ended(ended, ExitCode.REFUSED, ErrorCategory.USER, Charged.NO, "wrong_provider")


async def test_vendors_are_reached_by_tls_with_a_private_authority(
    tmp_path: Path, store: ObjectStore, server_certificate: Path
) -> None:
    """As in production: https, a certificate that is checked. Without the authority nothing is sent."""
    settings = {"tls_cert": str(server_certificate), "tls_key": str(server_certificate)}
    with standin_process(tmp_path, scheme="https", authority=server_certificate, **settings) as standin:
        bench = Bench(tmp_path, standin, store)
        trusting = bench.run(bench.avatar(count=1), SSL_CERT_FILE=str(server_certificate))
        assert trusting.exit_code is ExitCode.DONE, trusting.logs
        doubting = bench.run(bench.avatar(count=1))
        assert_ended(doubting, ExitCode.BROKE, ErrorCategory.OUTAGE, Charged.NO, "unreachable")
        assert len(standin.billed()) == 1
