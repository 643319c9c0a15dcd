"""Write an image without any engine: the docker-archive layout is a tar of tars and two JSON files."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path


def write_single_program(target: Path, image: str, program: Path) -> None:
    """An image of one static program and nothing else, as a docker-archive at `target`.

    Source of the layout: the image specification of Docker, v1.2 ("Combined Image JSON + Filesystem Changeset Format").
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo(program.name)
        entry.mode = 0o755
        content = program.read_bytes()
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    layer_bytes = layer.getvalue()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer_bytes).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [image], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(target, "w") as tar:
        for name, content in (("layer.tar", layer_bytes), ("config.json", config), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
