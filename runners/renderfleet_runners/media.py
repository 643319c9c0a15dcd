"""Audio and video through ffmpeg, as if every file came from an enemy.

The kind of a file is told by its first bytes, and ffmpeg is made to read it as that and nothing else: a playlist that
calls itself .wav stays a broken wav. Only the protocols `file` and `pipe` are open. Each run has limits on memory,
CPU time, wall time and output size.
"""

import asyncio
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from .clock import Deadline
from .errors import OwnFault

MEMORY_LIMIT_BYTES = 2 << 30
"""Address space of one tool; ffmpeg maps about 0.5 GB before it reads anything."""
CPU_LIMIT_SECONDS = 120
FILE_LIMIT_BYTES = 1 << 30
TOOL_SECONDS = 150.0
TOOL_OUTPUT_LIMIT_BYTES = 1 << 20
JOINT_SECONDS = 0.02
"""How long one part of a speech fades into the next: too short to be heard, long enough for the lowest voice."""
SILENT_BELOW_DB = -60.0
"""Peak of a recording that nobody would hear."""


class Kind(StrEnum):
    """What a file's first bytes say it is."""

    PNG = "image/png"
    JPEG = "image/jpeg"
    MP3 = "audio/mpeg"
    WAV = "audio/wav"
    FLAC = "audio/flac"
    MP4 = "video/mp4"
    """Also m4a: the container is the same, the streams tell."""


DEMUXERS = {Kind.MP3: "mp3", Kind.WAV: "wav", Kind.FLAC: "flac", Kind.MP4: "mov"}


class NotMedia(Exception):
    """The file is not what it should be; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def kind_of(file: Path) -> Kind:
    """What a file is by its content. Raises NotMedia for all that we do not handle, SVG and playlists included."""
    with file.open("rb") as source:
        head = source.read(16)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Kind.PNG
    if head.startswith(b"\xff\xd8\xff"):
        return Kind.JPEG
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return Kind.WAV
    if head.startswith(b"fLaC"):
        return Kind.FLAC
    if head[4:8] == b"ftyp":
        return Kind.MP4
    # An MP3 frame: eleven set bits, layer III (01), a bit rate that is not "bad" (1111).
    if head.startswith(b"ID3") or (
        len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[2] & 0xF0 != 0xF0
    ):
        return Kind.MP3
    raise NotMedia("unknown_format", "the file is neither png, jpeg, mp3, wav, flac nor mp4")


@dataclass(frozen=True, slots=True)
class Probe:
    """What ffprobe says about a file."""

    seconds: float
    """As the container declares it."""
    video_codec: str | None = None
    audio_codec: str | None = None
    width_px: int | None = None
    height_px: int | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What decoding a whole audio stream showed."""

    seconds: float
    loudness_lufs: float | None
    """Integrated loudness (EBU R 128); None when too short or too quiet to be measured."""
    peak_db: float

    @property
    def is_silent(self) -> bool:
        """Whether nobody would hear anything."""
        return self.peak_db < SILENT_BELOW_DB


async def probe(file: Path, kind: Kind, deadline: Deadline) -> Probe:
    """Streams and length of a file. Raises NotMedia when ffprobe cannot read it as `kind`."""
    output = await run_tool(
        "ffprobe",
        "-v",
        "error",
        *_source(file, kind),
        "-show_format",
        "-show_streams",
        "-of",
        "json",
        deadline=deadline,
    )
    try:
        seen: dict[str, Any] = json.loads(output.stdout)
    except ValueError:
        seen = {}
    if output.code != 0 or not seen.get("streams"):
        raise NotMedia("unreadable", "the file cannot be read")
    streams = seen["streams"]
    video = next((s for s in streams if s.get("codec_type") == "video" and not _is_cover(s)), None)
    audio = next((s for s in streams if s.get("codec_type") == "audio"), None)
    return Probe(
        seconds=_number(seen.get("format", {}).get("duration")) or _number((audio or {}).get("duration")) or 0.0,
        video_codec=video.get("codec_name") if video else None,
        audio_codec=audio.get("codec_name") if audio else None,
        width_px=video.get("width") if video else None,
        height_px=video.get("height") if video else None,
    )


async def listen(file: Path, kind: Kind, deadline: Deadline) -> Heard:
    """Decode the first audio stream to its end and measure it. Raises NotMedia when there is none to decode."""
    output = await run_tool(
        "ffmpeg",
        "-hide_banner",
        "-nostdin",
        "-nostats",
        *("-v", "info"),
        *_source(file, kind),
        *("-map", "0:a:0", "-af", "ebur128=framelog=verbose,volumedetect", "-f", "null"),
        *("-progress", "pipe:1", "-"),
        deadline=deadline,
    )
    times = re.findall(r"^out_time_us=(\d+)", output.stdout, re.MULTILINE)
    peak = re.search(r"max_volume: (-?[\d.]+|-inf) dB", output.stderr)
    if output.code != 0 or not times or peak is None:
        raise NotMedia("undecodable", "the sound cannot be decoded")
    summary = output.stderr.rpartition("Integrated loudness:")[2]
    loudness = re.search(r"I:\s+(-?[\d.]+) LUFS", summary)
    lufs = float(loudness.group(1)) if loudness else None
    return Heard(
        seconds=int(times[-1]) / 1_000_000,
        loudness_lufs=lufs if lufs is not None and lufs > -70.0 else None,  # -70 is the gate: nothing was measured
        peak_db=float(peak.group(1)),
    )


async def join_audio(
    parts: list[Path], kind: Kind, target: Path, deadline: Deadline, *, bit_rate_kbit: int, sample_rate_hz: int
) -> None:
    """Two or more recordings, one after the other, as one MP3. Raises NotMedia.

    They are decoded and encoded again: MP3 frames lean on their neighbours, so files glued together click. So does a wave
    that ends in its middle where the next one begins elsewhere: each part fades into the next for a moment.
    """
    sources = [argument for part in parts for argument in _source(part, kind)]
    fade = f"acrossfade=d={JOINT_SECONDS}:c1=tri:c2=tri"
    joints = [f"[joined{index - 1}][{index}:a:0]{fade}[joined{index}]" for index in range(1, len(parts))]
    chain = ";".join(joints).replace("[joined0]", "[0:a:0]")
    output = await run_tool(
        "ffmpeg",
        *("-hide_banner", "-nostdin", "-v", "error", "-y"),
        *sources,
        *("-filter_complex", chain, "-map", f"[joined{len(parts) - 1}]", "-ar", str(sample_rate_hz), "-ac", "1"),
        *("-c:a", "libmp3lame", "-b:a", f"{bit_rate_kbit}k", "-map_metadata", "-1", "-fflags", "+bitexact"),
        *("-f", "mp3", f"file:{target}"),
        deadline=deadline,
    )
    if output.code != 0:
        raise NotMedia("unjoinable", "the parts of the speech cannot be joined")


async def move_index_to_front(file: Path, target: Path, deadline: Deadline) -> None:
    """The same MP4 with its index first, so that players start before the end has arrived. Streams are copied as they are.

    Raises NotMedia.
    """
    output = await run_tool(
        "ffmpeg",
        *("-hide_banner", "-nostdin", "-v", "error", "-y"),
        *_source(file, Kind.MP4),
        *("-map", "0:v:0", "-map", "0:a:0", "-c", "copy", "-movflags", "+faststart", "-fflags", "+bitexact"),
        *("-f", "mp4", f"file:{target}"),
        deadline=deadline,
    )
    if output.code != 0:
        raise NotMedia("unremuxable", "the video cannot be rewritten")


async def still(file: Path, at_seconds: float, target: Path, encoder: str, deadline: Deadline) -> None:
    """One picture of an MP4. Raises NotMedia when none can be decoded there."""
    output = await run_tool(
        "ffmpeg",
        *("-hide_banner", "-nostdin", "-v", "error", "-y", "-ss", f"{at_seconds:.3f}"),
        *_source(file, Kind.MP4),
        *("-map", "0:v:0", "-frames:v", "1", "-c:v", encoder, "-q:v", "3", "-fflags", "+bitexact"),
        *("-f", "image2", "-update", "1", f"file:{target}"),
        deadline=deadline,
    )
    if output.code != 0 or not _has_content(target):
        raise NotMedia("no_picture", "the video shows no picture that can be decoded")


def _has_content(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def index_is_in_front(file: Path) -> bool:
    """Whether an MP4's `moov` box comes before its `mdat`. Raises NotMedia when its boxes do not fill it: it was cut off."""
    order: list[bytes] = []
    total = file.stat().st_size
    with file.open("rb") as source:
        at = 0
        while at < total:
            source.seek(at)
            head = source.read(16)
            size, name = int.from_bytes(head[:4], "big"), head[4:8]
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            elif size == 0:
                size = total - at
            if size < 8 or at + size > total:
                raise NotMedia("cut_off", "the video ends before its last part does")
            order.append(name)
            at += size
    if b"moov" not in order or b"mdat" not in order:
        raise NotMedia("cut_off", "the video has no index or no content")
    return order.index(b"moov") < order.index(b"mdat")


def _source(file: Path, kind: Kind) -> tuple[str, ...]:
    return ("-protocol_whitelist", "file,pipe", "-threads", "1", "-f", DEMUXERS[kind], "-i", f"file:{file}")


def _is_cover(stream: dict[str, Any]) -> bool:
    return bool(stream.get("disposition", {}).get("attached_pic"))


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """How a tool ended and the last part of what it wrote."""

    code: int
    stdout: str
    stderr: str


async def run_tool(tool: str, *arguments: str, deadline: Deadline) -> ToolOutput:
    """Run a tool under its limits. Raises NotMedia when it uses up its time, OwnFault when it cannot be started.

    prlimit sets the limits before the tool's first instruction; doing it between fork and exec in Python is unsafe
    beside threads.
    """
    limits = (f"--as={MEMORY_LIMIT_BYTES}", f"--cpu={CPU_LIMIT_SECONDS}", f"--fsize={FILE_LIMIT_BYTES}", "--core=0")
    try:
        process = await asyncio.create_subprocess_exec(
            "prlimit",
            *limits,
            "--",
            tool,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
        )
    except OSError as missing:
        raise OwnFault("tool_missing", f"{tool} cannot be started") from missing
    seconds = min(TOOL_SECONDS, deadline.seconds_left())
    try:
        async with asyncio.timeout(seconds):
            stdout, stderr = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            code = await process.wait()
    except TimeoutError as late:
        raise NotMedia("too_slow", f"the file could not be worked on within {seconds:.0f} s") from late
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code == 127:
        raise OwnFault("tool_missing", f"{tool} cannot be started")
    return ToolOutput(code, stdout, stderr)


async def _read(stream: asyncio.StreamReader | None) -> str:
    """The last part of what a tool writes; all of it is read, or the tool would wait for us."""
    assert stream is not None
    kept = bytearray()
    while chunk := await stream.read(1 << 16):
        kept += chunk
        del kept[:-TOOL_OUTPUT_LIMIT_BYTES]
    return kept.decode(errors="replace")
