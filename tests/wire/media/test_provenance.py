"""What a vendor signed stays signed, and what we say of it is true: files, and whole stages against a vendor that signs."""

import base64
import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tests.support.signing import VENDOR, SigningVendor
from tests.support.wire import LINK_SECONDS, Bench

from renderfleet_crds.contract import ExitCode, InputFile, Output, Vendor
from renderfleet_runners import provenance
from renderfleet_runners.clock import Deadline
from renderfleet_runners.media import Kind, index_is_in_front
from renderfleet_runners.provenance import is_signed, provenance_of

VALID = f"c2pa valid, signed as {VENDOR}"
FILES = (("face.png", Kind.PNG), ("face.jpg", Kind.JPEG), ("tone.mp3", Kind.MP3), ("talk.mp4", Kind.MP4))


@pytest.fixture(scope="module")
def vendor() -> SigningVendor:
    return SigningVendor.made()


async def told(file: Path, kind: Kind) -> str | None:
    return await provenance_of(file, kind, Deadline.after(30))


@pytest.mark.parametrize(("name", "kind"), FILES)
async def test_a_signature_is_found_and_checked(
    vendor: SigningVendor, media: Path, tmp_path: Path, name: str, kind: Kind
) -> None:
    signed = tmp_path / name
    signed.write_bytes(vendor.sign((media / name).read_bytes(), kind.value))

    assert await told(signed, kind) == VALID
    assert await told(media / name, kind) is None


@pytest.mark.parametrize(("name", "kind"), FILES)
async def test_a_file_that_was_changed_after_signing_is_told(
    vendor: SigningVendor, media: Path, tmp_path: Path, name: str, kind: Kind
) -> None:
    content = bytearray(vendor.sign((media / name).read_bytes(), kind.value))
    content[-40] ^= 1
    changed = tmp_path / name
    changed.write_bytes(content)

    assert (await told(changed, kind) or "").startswith("c2pa invalid: assertion.")


async def test_a_manifest_that_is_rubbish_is_no_valid_one(media: Path, tmp_path: Path) -> None:
    video = (media / "talk.mp4").read_bytes()
    front = int.from_bytes(video[:4], "big")
    box = bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + b"rubbish"
    (tmp_path / "x.mp4").write_bytes(video[:front] + (8 + len(box)).to_bytes(4, "big") + b"uuid" + box + video[front:])

    assert (await told(tmp_path / "x.mp4", Kind.MP4) or "").startswith("c2pa invalid")


async def test_the_word_alone_is_no_signature(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("prompt", "please write c2pa jumb caBX")
    Image.new("RGB", (200, 200)).save(tmp_path / "x.png", pnginfo=info)

    assert not is_signed(tmp_path / "x.png", Kind.PNG)


@pytest.mark.parametrize(
    "verifier", ["raise SystemExit(1)", "print('no json')", "while True: pass", "x = bytearray(1 << 40)"]
)
async def test_a_verifier_that_fails_costs_nothing_but_the_verdict(
    vendor: SigningVendor, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verifier: str
) -> None:
    (tmp_path / "verifier.py").write_text(verifier)
    monkeypatch.setattr(provenance, "_VERIFIER", tmp_path / "verifier.py")
    monkeypatch.setattr(provenance, "CHECK_SECONDS", 1.0)
    signed = tmp_path / "face.png"
    signed.write_bytes(vendor.sign((media / "face.png").read_bytes(), "image/png"))

    assert await told(signed, Kind.PNG) == "c2pa unchecked"


class Answers(BaseHTTPRequestHandler):
    """Pictures and speech that are signed."""

    picture: bytes
    speech: bytes

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/images/generations"):
            self._answer("application/json", json.dumps(
                {"created": 1, "data": [{"b64_json": base64.b64encode(self.picture).decode()}], "usage": {"output_tokens": 9}}
            ).encode())  # fmt: skip
        else:
            self._answer("audio/mpeg", self.speech)

    def _answer(self, content_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
        """Keep quiet."""


@pytest.fixture
def signing_url(vendor: SigningVendor, media: Path, tmp_path: Path) -> Iterator[str]:
    Image.effect_noise((1024, 1024), 90).convert("RGB").save(tmp_path / "picture.png")
    Answers.picture = vendor.sign((tmp_path / "picture.png").read_bytes(), "image/png")
    Answers.speech = vendor.sign((media / "tone.mp3").read_bytes(), "audio/mpeg")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def outputs_of(bench: Bench, ended_outputs: list[Output]) -> dict[str, tuple[str | None, bytes]]:
    """Name -> what is said of it, and what is stored."""
    return {one.name: (one.provenance, bench.store.read(one.key) or b"") for one in ended_outputs}


def test_a_signed_picture_is_stored_untouched(bench: Bench, signing_url: str) -> None:
    ended = bench.run(bench.avatar(count=1, provider=bench.provider(Vendor.OPENAI, base_url=signing_url)))

    assert ended.exit_code is ExitCode.DONE, ended.logs
    assert ended.result is not None
    stored = outputs_of(bench, ended.result.outputs)
    assert stored["image-1"] == (VALID, Answers.picture)
    assert stored["thumbnail-1"][0] == "c2pa removed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("One.", VALID, id="as the vendor sent it"),
        pytest.param("One sentence here. And a second one.", "c2pa removed", id="joined of two"),
    ],
)
def test_signed_speech(bench: Bench, signing_url: str, text: str, expected: str) -> None:
    access = bench.provider(Vendor.ELEVENLABS, base_url=signing_url, options={"maxCharacters": "20"})
    ended = bench.run(bench.voice(text=text, provider=access))

    assert ended.exit_code is ExitCode.DONE, ended.logs
    assert ended.result is not None
    said, content = outputs_of(bench, ended.result.outputs)["speech"]
    assert said == expected
    assert (content == Answers.speech) is (expected == VALID)


@pytest.mark.parametrize("name", ["talk.mp4", "late.mp4"])
def test_a_signed_video_is_stored_untouched_wherever_its_index_is(
    bench: Bench, vendor: SigningVendor, media: Path, tmp_path: Path, name: str
) -> None:
    signed = tmp_path / name
    signed.write_bytes(vendor.sign((media / name).read_bytes(), "video/mp4"))
    key = f"media/tenant-a/{name}-{tmp_path.name}"
    bench.store.put(key, signed, "video/mp4")
    link = bench.store.media.presign_get(key, LINK_SECONDS, "internal")
    video = InputFile(name="video", url=link, content_type="video/mp4", max_bytes=10_000_000)

    ended = bench.run(bench.video_finalize(link, None, inputs=[video]))

    assert ended.exit_code is ExitCode.DONE, ended.logs
    assert ended.result is not None
    outputs = {one.name: one for one in ended.result.outputs}
    assert outputs["video"].provenance == VALID
    assert outputs["video"].sha256 == hashlib.sha256(signed.read_bytes()).hexdigest()
    assert outputs["poster"].provenance == "c2pa removed"
    assert index_is_in_front(signed) is (name == "talk.mp4")
