"""Whether an MP3 ends where a frame does. Most vendors' files carry no header that tells their length, so a file that was
cut off plays without complaint: only its last frame, of which a part is missing, gives it away.

Source: ISO/IEC 11172-3 and 13818-3, frame header; ID3v2.4 section 3.1, tag header.
"""

from pathlib import Path

_KBITS_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Sample rates by the header's two version bits: MPEG-1, MPEG-2, MPEG-2.5."""


def is_cut_off(file: Path) -> bool:
    """Whether the last frame of an MP3 is incomplete. False, too, for a file in which something else follows a frame."""
    content = file.read_bytes()
    at = _tag_bytes(content)
    while at < len(content):
        head = content[at : at + 4]
        if len(head) < 4:
            return head[0] == 0xFF
        size = _frame_bytes(head)
        if size is None:
            return False
        at += size
    return at > len(content)


def _tag_bytes(content: bytes) -> int:
    if content[:3] != b"ID3" or len(content) < 10:
        return 0
    size = 0
    for seven_bits in content[6:10]:
        size = size << 7 | seven_bits & 0x7F
    return 10 + size


def _frame_bytes(head: bytes) -> int | None:
    """Length of the layer III frame that begins so; None when none does."""
    if head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, kbits_at, rate_at, padding = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version not in _RATES_HZ or kbits_at in (0, 15) or rate_at == 3:
        return None
    kbits = (_KBITS_MPEG1 if version == 3 else _KBITS_MPEG2)[kbits_at]
    return (144 if version == 3 else 72) * kbits * 1000 // _RATES_HZ[version][rate_at] + padding
