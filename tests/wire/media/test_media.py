"""Media files, honest and hostile: what is measured, what is refused, and how quickly."""

import itertools
import math
import struct
import subprocess
import time
import zlib
from array import array
from pathlib import Path

import pytest
from PIL import Image
from tests.support.decoy import decoy

from renderfleet_runners import media as tools
from renderfleet_runners import mp3
from renderfleet_runners.clock import Deadline
from renderfleet_runners.media import (
    Kind,
    NotMedia,
    index_is_in_front,
    join_audio,
    kind_of,
    listen,
    move_index_to_front,
    probe,
    still,
)
from renderfleet_runners.pictures import check_picture, make_thumbnail

from .conftest import TONE, ffmpeg

SOON = 20.0


def soon() -> Deadline:
    return Deadline.after(SOON)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tone.mp3", Kind.MP3),
        ("tone.wav", Kind.WAV),
        ("tone.flac", Kind.FLAC),
        ("tone.m4a", Kind.MP4),
        ("talk.mp4", Kind.MP4),
        ("face.png", Kind.PNG),
        ("face.jpg", Kind.JPEG),
    ],
)
def test_kinds_are_told_by_content(media: Path, tmp_path: Path, name: str, kind: Kind) -> None:
    disguised = tmp_path / "disguised.txt"
    disguised.write_bytes((media / name).read_bytes())
    assert kind_of(disguised) is kind


@pytest.mark.parametrize("name", ["tone.mp3", "tone.wav", "tone.flac", "tone.m4a"])
async def test_sound_is_measured(media: Path, name: str) -> None:
    kind = kind_of(media / name)
    assert (await probe(media / name, kind, soon())).seconds == pytest.approx(2.0, abs=0.1)
    heard = await listen(media / name, kind, soon())
    assert heard.seconds == pytest.approx(2.0, abs=0.1)
    assert not heard.is_silent
    assert heard.loudness_lufs == pytest.approx(-21.8, abs=1.5), "a sine at 1/8 of full scale"


async def test_silence_is_heard_as_silence(media: Path) -> None:
    heard = await listen(media / "silence.mp3", Kind.MP3, soon())
    assert heard.is_silent
    assert heard.loudness_lufs is None


async def test_a_cut_off_recording_is_shorter_than_it_says(media: Path, tmp_path: Path) -> None:
    whole = (media / "tone.mp3").read_bytes()
    cut = tmp_path / "cut.mp3"
    cut.write_bytes(whole[: len(whole) // 2])
    declared = await probe(cut, Kind.MP3, soon())
    assert (await listen(cut, Kind.MP3, soon())).seconds < declared.seconds - 0.3


@pytest.mark.parametrize(
    "output", [("44100", "128k"), ("44100", "192k"), ("24000", "48k"), ("22050", "32k"), ("8000", "8k")]
)
@pytest.mark.parametrize("tagged", [False, True])
def test_a_recording_without_a_length_is_cut_off_where_a_frame_does_not_end(
    tmp_path: Path, output: tuple[str, str], tagged: bool
) -> None:
    """As vendors send them: nothing in the file says how long it should be."""
    rate, bits = output
    title = ("-metadata", "title=hello") if tagged else ("-id3v2_version", "0")
    whole, cut = tmp_path / "whole.mp3", tmp_path / "cut.mp3"
    ffmpeg(*TONE, "-ar", rate, "-b:a", bits, "-write_xing", "0", *title, str(whole))
    content = whole.read_bytes()
    assert content.startswith(b"ID3") is tagged
    assert not mp3.is_cut_off(whole)

    cut.write_bytes(content + b"TAG" + bytes(125))
    assert not mp3.is_cut_off(cut), "an old tag at the end is no frame"
    found = []
    for kept in range(len(content) // 2, len(content) // 2 + 100):
        cut.write_bytes(content[:kept])
        found.append(mp3.is_cut_off(cut))
    assert found.count(False) <= 2, "only a cut just between two frames cannot be seen"


async def test_parts_are_joined_without_a_gap_or_a_click(tmp_path: Path) -> None:
    """Tones that end in the middle of a wave: no sample is far from its neighbours, and it never falls quiet."""
    lengths = (1.30057, 1.21, 0.9031)
    parts = [tmp_path / f"part-{number}.mp3" for number in range(len(lengths))]
    for number, (part, seconds) in enumerate(zip(parts, lengths, strict=True)):
        wave = f"0.5*sin(2*PI*440*t+{number})"
        ffmpeg("-f", "lavfi", "-i", f"aevalsrc='{wave}':d={seconds}:s=44100", "-b:a", "128k", str(part))
    joined = tmp_path / "joined.mp3"

    await join_audio(parts, Kind.MP3, joined, soon(), bit_rate_kbit=128, sample_rate_hz=44100)

    samples = _samples(joined)
    assert len(samples) / 44100 == pytest.approx(sum(lengths), abs=0.1)
    samples = samples[4410:-4410]  # a tone's own beginning and end are steep as well
    steepest = max(abs(after - before) for before, after in itertools.pairwise(samples))
    assert steepest < 1.3 * 0.5 * 32767 * 2 * math.pi * 440 / 44100
    hundredths = [samples[at : at + 441] for at in range(0, len(samples) - 441, 441)]
    assert min(max(map(abs, one)) for one in hundredths) > 1000


def _samples(file: Path) -> list[int]:
    command = ["ffmpeg", "-v", "error", "-i", str(file), "-f", "s16le", "-ac", "1", "-"]
    return list(array("h", subprocess.run(command, check=True, capture_output=True).stdout))


async def test_video_is_probed_and_rewritten_without_encoding(media: Path, tmp_path: Path) -> None:
    assert index_is_in_front(media / "talk.mp4")
    assert not index_is_in_front(media / "late.mp4")
    rewritten, again = tmp_path / "rewritten.mp4", tmp_path / "again.mp4"
    await move_index_to_front(media / "late.mp4", rewritten, soon())
    await move_index_to_front(media / "late.mp4", again, soon())
    assert index_is_in_front(rewritten)
    assert rewritten.read_bytes() == again.read_bytes(), "two runners of one attempt store the same bytes"
    seen = await probe(rewritten, Kind.MP4, soon())
    assert (seen.video_codec, seen.audio_codec, seen.width_px, seen.height_px) == ("h264", "aac", 320, 240)
    poster = tmp_path / "poster"
    await still(rewritten, 1.0, poster, "mjpeg", soon())
    assert Image.open(poster).size == (320, 240)


async def test_a_video_without_sound_has_none(media: Path) -> None:
    assert (await probe(media / "mute.mp4", Kind.MP4, soon())).audio_codec is None
    with pytest.raises(NotMedia):
        await listen(media / "mute.mp4", Kind.MP4, soon())


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_cut_off_video_is_seen_by_its_boxes(media: Path, tmp_path: Path, keep: float) -> None:
    whole = (media / "talk.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(NotMedia) as refused:
        index_is_in_front(cut)
    assert refused.value.code == "cut_off"


PLAYLIST = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.0,\nfile:///etc/passwd\n#EXTINF:1.0,\nhttp://127.0.0.1:{port}/x\n#EXT-X-ENDLIST\n"


async def test_a_playlist_in_disguise_reads_nothing(tmp_path: Path) -> None:
    """Whatever its name, it is unknown; and even forced through ffmpeg as a wav it opens neither file nor socket."""
    async with decoy() as inside:
        playlist = tmp_path / "song.wav"
        playlist.write_text(PLAYLIST.format(port=inside.port))
        with pytest.raises(NotMedia):
            kind_of(playlist)
        for kind in (Kind.WAV, Kind.MP3, Kind.MP4, Kind.FLAC):
            with pytest.raises(NotMedia):
                await listen(playlist, kind, soon())
    assert inside.connections == 0


async def test_a_wave_header_before_a_playlist_changes_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "song.wav"
    bad.write_bytes(b"RIFF\xff\xff\xff\xffWAVE" + PLAYLIST.format(port=1).encode())
    assert kind_of(bad) is Kind.WAV
    with pytest.raises(NotMedia):
        await probe(bad, Kind.WAV, soon())


def png(width: int, height: int, *, pixels: bytes = b"", extra: bytes = b"") -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


BOMBS = {
    "50 000 pixels a side": png(50_000, 50_000, pixels=zlib.compress(b"\0" * 1_000_000)),
    "just over the limit": png(4000, 2622, pixels=zlib.compress(b"\0" * 1_000_000)),
    "one very long line": png(2**31 - 1, 1, pixels=b""),
    "pixels that never end": png(3000, 3000, pixels=zlib.compress(b"\0" * 100_000_000, 9)),
    "too few pixels": png(3000, 3000, pixels=zlib.compress(b"\0" * 10)),
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "svg in a png's name": b"<svg/>",
    "gif": b"GIF89a" + b"\0" * 100,
    "nothing": b"",
    "only a signature": b"\x89PNG\r\n\x1a\n",
    "text that unpacks to 100 MB": png(
        300,
        300,
        pixels=zlib.compress(b"\0" * 300 * 901),
        extra=struct.pack(">I", 5 + len(zlib.compress(b"a" * 100_000_000, 9)))
        + b"zTXt"
        + (body := b"key\0\0" + zlib.compress(b"a" * 100_000_000, 9))
        + struct.pack(">I", zlib.crc32(b"zTXt" + body)),
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_picture_bombs_are_refused_quickly(name: str, tmp_path: Path) -> None:
    file = tmp_path / "bomb.png"
    file.write_bytes(BOMBS[name])
    started = time.process_time()
    if name == "pixels that never end":
        # As many as announced are unpacked and no more: it is a picture, and harmless.
        assert check_picture(file).width_px == 3000
    else:
        with pytest.raises(NotMedia):
            check_picture(file)
    assert time.process_time() - started < 1.0


def test_a_cut_off_picture_is_no_picture(media: Path, tmp_path: Path) -> None:
    for name in ("face.png", "face.jpg"):
        whole = (media / name).read_bytes()
        cut = tmp_path / name
        cut.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(NotMedia):
            check_picture(cut)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_every_kind_of_png_gets_a_thumbnail(mode: str, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    Image.new(mode, (640, 320)).save(file)
    small = make_thumbnail(file, tmp_path / "small.jpg", 256, "image/jpeg")
    assert (small.width_px, small.height_px) == (256, 128)
    assert Image.open(tmp_path / "small.jpg").format == "JPEG"


async def test_a_tool_that_does_not_end_is_ended(media: Path) -> None:
    started = time.monotonic()
    with pytest.raises(NotMedia) as refused:
        await tools.run_tool("sleep", "60", deadline=Deadline.after(0.3))
    assert refused.value.code == "too_slow"
    assert time.monotonic() - started < 5


async def test_a_tool_that_takes_memory_is_stopped() -> None:
    eats = "import sys; x = bytearray(4 << 30); print(len(x))"
    output = await tools.run_tool("python3", "-c", eats, deadline=soon())
    assert output.code != 0
    assert "MemoryError" in output.stderr
