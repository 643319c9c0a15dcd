"""Whether a file carries content credentials (C2PA), which a vendor signs its works with.

Found by structure, not by searching for a word, which a prompt in a text chunk could hold:
PNG   a chunk `caBX`
JPEG  an APP11 segment with a JUMBF box (ISO 19566-5)
MP4   a top-level `uuid` box with C2PA's identifier
MP3   an ID3 tag with a GEOB frame of C2PA's type
Source: C2PA technical specification, "Embedding manifests into various file formats".
"""

from collections.abc import Callable
from pathlib import Path

from .media import Kind

Read = Callable[[int], bytes]

C2PA = "c2pa"
_MP4_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_ID3_TYPE = b"application/x-c2pa-manifest-store"
_HEAD_BYTES = 1 << 20


def provenance_of(file: Path, kind: Kind) -> str | None:
    """`c2pa` when the file holds a manifest, else None. The signature itself is not verified."""
    with file.open("rb") as source:
        match kind:
            case Kind.PNG:
                found = _png(source.read)
            case Kind.JPEG:
                found = _jpeg(source.read)
            case Kind.MP4:
                found = _mp4(file)
            case Kind.MP3:
                head = source.read(_HEAD_BYTES)
                found = head.startswith(b"ID3") and b"GEOB" in head and _ID3_TYPE in head
            case _:
                found = False
    return C2PA if found else None


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
