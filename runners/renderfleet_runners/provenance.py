"""What became of the content credentials (C2PA) that a vendor signs its works with.

none in the vendor's file              None
in it, and the signature fits          `c2pa valid`, with the name that the signing certificate bears
in it, and it does not                 `c2pa invalid`, with the first thing that is wrong
in it, and we could not judge          `c2pa unchecked`
this file was made from a signed one   `c2pa removed`: a thumbnail, a poster, parts that were joined

A signed file is stored as it came, byte for byte, so what was valid stays valid. Whether there is a manifest at all is
told by structure, not by searching for a word, which a prompt in a text chunk could hold; only then a verifier is started.
PNG   a chunk `caBX`
JPEG  an APP11 segment with a JUMBF box (ISO 19566-5)
MP4   a top-level `uuid` box with C2PA's identifier
MP3   an ID3v2 tag with a GEOB frame of C2PA's type
Source: C2PA technical specification, "Embedding manifests into various file formats".
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .clock import Deadline
from .errors import OwnFault
from .media import Kind, NotMedia, run_tool

Read = Callable[[int], bytes]

VALID, INVALID, UNCHECKED, REMOVED = "c2pa valid", "c2pa invalid", "c2pa unchecked", "c2pa removed"
CHECK_SECONDS = 20.0
_VERIFIER = Path(__file__).with_name("credentials.py")
_MP4_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_ID3_TYPES = (b"application/c2pa", b"application/x-c2pa-manifest-store")
"""The registered type, and the one before it was."""
_LONGEST_DETAIL = 100


async def provenance_of(file: Path, kind: Kind, deadline: Deadline) -> str | None:
    """What to report of a file that is stored as the vendor sent it; None when it holds no manifest."""
    return await _verdict(file, kind, deadline) if is_signed(file, kind) else None


def provenance_of_copy(source: str | None) -> str | None:
    """What to report of a file that we made from one with that provenance."""
    return REMOVED if source is not None else None


async def _verdict(file: Path, kind: Kind, deadline: Deadline) -> str:
    """A judgement that fails is told as such: it is no reason to throw away what was paid for."""
    try:
        output = await run_tool(
            sys.executable, "-I", str(_VERIFIER), kind.value, str(file), deadline=deadline.within(CHECK_SECONDS)
        )
        seen: dict[str, Any] = json.loads(output.stdout)
    except (NotMedia, OwnFault, ValueError):
        return UNCHECKED
    if seen.get("state") in ("Valid", "Trusted"):
        signer = _plain(seen.get("signer"))
        return f"{VALID}, signed as {signer}" if signer else VALID
    wrong = _plain(next(iter(seen.get("failures") or ()), None))
    return f"{INVALID}: {wrong}" if wrong else INVALID


def _plain(text: object) -> str:
    """Words from a certificate without anything that could play a trick on a terminal or a page."""
    return re.sub(r"[^\w .,()&'-]", "", text)[:_LONGEST_DETAIL].strip() if isinstance(text, str) else ""


def is_signed(file: Path, kind: Kind) -> bool:
    """Whether the file holds a manifest."""
    with file.open("rb") as source:
        match kind:
            case Kind.PNG:
                return _png(source.read)
            case Kind.JPEG:
                return _jpeg(source.read)
            case Kind.MP4:
                return _mp4(file)
            case Kind.MP3:
                return _mp3(source.read)
            case _:
                return False


def _png(read: Read) -> bool:
    read(8)
    while len(head := read(8)) == 8:
        size, name = int.from_bytes(head[:4], "big"), head[4:]
        if name == b"caBX":
            return True
        if name == b"IDAT" or len(read(size + 4)) < size + 4:
            return False  # the specification wants it before the pixels
    return False


def _jpeg(read: Read) -> bool:
    read(2)
    while len(marker := read(2)) == 2 and marker[0] == 0xFF and marker[1] not in (0xD9, 0xDA):
        size = int.from_bytes(read(2), "big")
        body = read(max(0, size - 2))
        if marker[1] == 0xEB and body[:2] == b"JP" and body[12:16] == b"jumb":
            return True
    return False


def _mp4(file: Path) -> bool:
    total = file.stat().st_size
    with file.open("rb") as source:
        at = 0
        while at + 8 <= total:
            source.seek(at)
            head = source.read(32)
            size, name = int.from_bytes(head[:4], "big"), head[4:8]
            header = 8
            if size == 1:
                size, header = int.from_bytes(head[8:16], "big"), 16
            if name == b"uuid" and head[header : header + 16] == _MP4_UUID:
                return True
            if size < 8:
                return False
            at += size
    return False


def _mp3(read: Read) -> bool:
    head = read(10)
    if len(head) < 10 or head[:3] != b"ID3":
        return False
    version, left = head[3], _seven_bits(head[6:])
    while left > 10 and len(frame := read(10)) == 10 and frame[0] != 0:
        # Since ID3v2.4 frames are counted in sevens as the tag itself is.
        size = _seven_bits(frame[4:8]) if version >= 4 else int.from_bytes(frame[4:8], "big")
        left -= 10 + size
        if left < 0:
            return False
        body = read(size)
        if frame[:4] == b"GEOB" and body[1:].split(b"\0", 1)[0] in _ID3_TYPES:
            return True
    return False


def _seven_bits(four: bytes) -> int:
    """A length in four bytes of seven bits each, as ID3v2 writes them."""
    return sum((byte & 0x7F) << shift for byte, shift in zip(four, (21, 14, 7, 0), strict=True))
