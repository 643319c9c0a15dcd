"""Build the project's images and put them into a cluster; do nothing where nothing changed.

With a container engine: its own `build`, and kind's `load`. Without one: Debian by mmdebstrap, the same container files
by buildah, then only the layers that containerd lacks go into the cluster. Either way the tag is the content's hash.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renderfleet_cluster import debian, local, programs
from renderfleet_cluster.imagefiles import ALIAS_TAG, RECIPES, Recipe, content_hash, repository_of
from renderfleet_cluster.places import REPOSITORY, cache_dir, only_one
from renderfleet_cluster.say import Trouble, line, step
from renderfleet_cluster.shape import Shape

NAMES = tuple(recipe.name for recipe in RECIPES)
KEPT_PER_IMAGE = 3
"""Older builds that stay in the cache: switching between two branches rebuilds nothing."""
BASE_RELEASE = "bookworm"
BASE_REVISION = 1
"""To be raised when the way the base is made changes."""
BASE_IMAGE = f"localhost/renderfleet/debian:{BASE_RELEASE}-{BASE_REVISION}"
PIP_CACHE_MOUNT = "/run/renderfleet-build"
HOST_CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
DEBIAN_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BUILDAH_PLACES = (Path("/var/lib/containers"), Path("/etc/cni"))
PIP_SETTINGS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image that is ready to be loaded."""

    name: str
    tag: str
    engine: str | None
    """The container engine that holds it, or None when it lies in the cache as a folder of layers."""

    @property
    def reference(self) -> str:
        """What a pod names to get exactly this content."""
        return f"{repository_of(self.name)}:{self.tag}"

    @property
    def alias(self) -> str:
        """What a pod names to get the newest."""
        return f"{repository_of(self.name)}:{ALIAS_TAG}"


def checked_names(names: Sequence[str]) -> list[str]:
    """The images meant: all when none is named; Trouble for an unknown name."""
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise Trouble(f"no image {', '.join(unknown)}", f"choose from {', '.join(NAMES)}")
    return [name for name in NAMES if name in names] if names else list(NAMES)


def tag_of(name: str) -> str:
    """The tag that the image has when built from the repository as it is now."""
    recipe = _recipe(name)
    beside = [f"{one.name} {one.version}" for one in programs.ALL if one.name in recipe.programs]
    foundation = json.dumps([BASE_RELEASE, BASE_REVISION, *beside])
    return f"{ALIAS_TAG}-{content_hash(recipe, foundation)}"


def listing(names: Sequence[str]) -> str:
    """One line `name reference` per image, for scripts that fill in Helm values."""
    return "\n".join(f"{name} {repository_of(name)}:{tag_of(name)}" for name in names)


def build(names: Sequence[str]) -> list[Built]:
    """Build what changed; returns all of `names`, ready to be loaded."""
    from renderfleet_cluster.providers import answering_engine

    engine = answering_engine()
    built = [Built(name=name, tag=tag_of(name), engine=engine) for name in names]
    for image in built:
        recipe = _recipe(image.name)
        if not _is_built(image):
            with only_one("building-images"):
                if _is_built(image):
                    continue
                if engine:
                    _build_with_engine(engine, recipe, image)
                else:
                    _build_without_engine(recipe, image)
                    _forget_old_builds(image.name)
    return built


def import_into_containerd(shape: Shape, built: Sequence[Built]) -> None:
    """Put images into the local cluster under both their names; those that are in already cost one look."""
    with only_one(f"images-of-{shape.name}"):
        _import_all(shape, built)


def _import_all(shape: Shape, built: Sequence[Built]) -> None:
    known = _names_to_digests(shape)
    for image in built:
        reference, alias = f"docker.io/{image.reference}", f"docker.io/{image.alias}"
        if reference not in known:
            _import(shape, image)
            known = _names_to_digests(shape)
        if known.get(alias) != known[reference]:
            local.ctr(shape, "images", "tag", "--force", reference, alias)


def import_archive(shape: Shape, archive: Path) -> None:
    """Put a finished docker or OCI archive into the local cluster."""
    local.ctr(shape, "images", "import", "--snapshotter", "overlayfs", str(archive))


def _is_built(image: Built) -> bool:
    return _engine_has(image.engine, image.reference) if image.engine else _layout_of(image).is_dir()


def _recipe(name: str) -> Recipe:
    return next(recipe for recipe in RECIPES if recipe.name == name)


# --- with a container engine ------------------------------------------------------------------------------------------


def _engine_has(engine: str, reference: str) -> bool:
    return subprocess.run([engine, "image", "inspect", reference], capture_output=True, check=False).returncode == 0


def _build_with_engine(engine: str, recipe: Recipe, image: Built) -> None:
    command = [engine, "build", "--file", str(REPOSITORY / recipe.container_file)]
    command += ["--tag", image.reference, "--tag", image.alias, *_program_context(recipe)]
    command += [part for name in PIP_SETTINGS if os.environ.get(name) for part in ("--build-arg", name)]
    _run_build(recipe, [*command, str(REPOSITORY)], {})


def _program_context(recipe: Recipe) -> list[str]:
    sets = [one for one in programs.ALL if one.name in recipe.programs]
    programs.ensure(sets)
    return [part for one in sets for part in ("--build-context", f"programs={one.folder}")]


# --- without one ------------------------------------------------------------------------------------------------------


def _layout_of(image: Built) -> Path:
    return cache_dir() / "images" / image.name / image.tag


def _buildah(*arguments: str) -> list[str]:
    """buildah with its own store in the cache: nothing of ours lands in the machine's container storage."""
    store = cache_dir() / "buildah"
    return [
        "buildah",
        "--root",
        str(store / "store"),
        "--runroot",
        str(store / "run"),
        "--storage-driver",
        "overlay",
        *arguments,
    ]


@contextmanager
def _nothing_left_beside_the_store() -> Iterator[None]:
    """buildah keeps a cache of layer names and a lock at fixed places, whatever store it is given."""
    new = [place for place in BUILDAH_PLACES if not place.exists()]
    try:
        yield
    finally:
        for place in new:
            shutil.rmtree(place, ignore_errors=True)


@_nothing_left_beside_the_store()
def _build_without_engine(recipe: Recipe, image: Built) -> None:
    if os.geteuid() != 0:
        raise Trouble(
            "building images without a container engine needs root", "run this as root, or start Docker or Podman"
        )
    debian.install(debian.IMAGE_PACKAGES)
    _ensure_base()
    local_name = f"localhost/{image.reference}"
    shared = cache_dir() / "build-mount"
    (shared / "pip").mkdir(parents=True, exist_ok=True)
    arguments = ["BASE=" + BASE_IMAGE, f"PIP_CACHE_DIR={PIP_CACHE_MOUNT}/pip"]
    arguments += [f"{name}={os.environ[name]}" for name in PIP_SETTINGS if os.environ.get(name)]
    if certificates := _host_certificates():
        shutil.copyfile(certificates, shared / "ca.crt")
        arguments.append(f"PIP_CERT={PIP_CACHE_MOUNT}/ca.crt")
    command = _buildah(
        "build", "--layers", "--pull-never", "--isolation", "chroot", "--network", "host", "--format", "oci"
    )
    command += ["--volume", f"{shared}:{PIP_CACHE_MOUNT}:rw"]
    command += [part for argument in arguments for part in ("--build-arg", argument)]
    command += [*_program_context(recipe), "--file", str(REPOSITORY / recipe.container_file), "--tag", local_name]
    _run_build(recipe, [*command, str(REPOSITORY)], {})

    target = _layout_of(image)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as scratch:
        layout = Path(scratch) / "layout"
        # The plain folder layout keeps layers as they are; the OCI one would compress all of them, for minutes.
        with step(f"storing {image.reference}"):
            _run(
                _buildah("push", "--quiet", "--disable-compression", "--format", "oci", local_name, f"dir:{layout}"),
                "buildah push",
            )
        _share_blobs(layout)
        layout.rename(target)


def _share_blobs(layout: Path) -> None:
    """Keep every layer once: one that another build has too becomes a hard link to it."""
    shared = cache_dir() / "images" / "blobs"
    shared.mkdir(exist_ok=True)
    for blob in layout.iterdir():
        if blob.name in ("manifest.json", "version"):
            continue
        common = shared / blob.name
        if common.exists():
            blob.unlink()
            blob.hardlink_to(common)
        else:
            common.hardlink_to(blob)


def _ensure_base() -> None:
    """Debian as the official slim image has it: minimal, and without documents."""
    if (
        subprocess.run(_buildah("inspect", "--type", "image", BASE_IMAGE), capture_output=True, check=False).returncode
        == 0
    ):
        return
    # Without sources of ours mmdebstrap takes Debian's own, updates and security included.
    sources = []
    if mirror := os.environ.get("RENDERFLEET_DEBIAN_MIRROR"):
        sources = [f"deb {mirror} {BASE_RELEASE} main", f"deb {mirror} {BASE_RELEASE}-updates main"]
        if security := os.environ.get("RENDERFLEET_DEBIAN_SECURITY_MIRROR"):
            sources.append(f"deb {security} {BASE_RELEASE}-security main")
    leave_out = [
        f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "info", "locale", "lintian")
    ]
    with tempfile.TemporaryDirectory(dir=cache_dir()) as scratch:
        root = Path(scratch) / "debian.tar"
        with step(f"making the base image: Debian {BASE_RELEASE}", usual_seconds=30):
            _run(
                [
                    "mmdebstrap", "--quiet", "--variant=minbase", *leave_out,
                    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
                    "--include=ca-certificates", BASE_RELEASE, str(root), *sources,
                ],
                "mmdebstrap",
            )  # fmt: skip
        container = _run(_buildah("from", "scratch"), "buildah from").strip()
        _run(_buildah("add", "--quiet", container, str(root), "/"), "buildah add")
        _run(_buildah("commit", "--quiet", "--rm", container, BASE_IMAGE), "buildah commit")


def _host_certificates() -> Path | None:
    """The certificates that this machine trusts: a build must trust the same, or its package index is out of reach."""
    for name in HOST_CERTIFICATES:
        value = os.environ.get(name)
        if value and Path(value).is_file():
            return Path(value)
    return DEBIAN_CERTIFICATES if DEBIAN_CERTIFICATES.is_file() else None


def _forget_old_builds(name: str) -> None:
    folder = cache_dir() / "images" / name
    builds = sorted(
        (path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for old in builds[KEPT_PER_IMAGE:]:
        shutil.rmtree(old)
        _run(_buildah("rmi", "--force", f"localhost/{repository_of(name)}:{old.name}"), "buildah rmi", may_fail=True)
    for blob in (cache_dir() / "images" / "blobs").iterdir():
        if blob.stat().st_nlink == 1:
            blob.unlink()


# --- into the cluster -------------------------------------------------------------------------------------------------


def _names_to_digests(shape: Shape) -> dict[str, str]:
    rows = [row.split() for row in local.ctr(shape, "images", "ls").splitlines()[1:]]
    return {row[0]: row[2] for row in rows}


def _import(shape: Shape, image: Built) -> None:
    with tempfile.TemporaryDirectory(dir=shape.state) as scratch:
        archive = Path(scratch) / "image.tar"
        if image.engine:
            _run([image.engine, "save", "--output", str(archive), image.reference], f"{image.engine} save")
        else:
            present = set(local.ctr(shape, "content", "ls", "--quiet").split())
            write_missing_layers(_layout_of(image), f"docker.io/{image.reference}", present, archive)
        with step(f"importing {image.reference}, {archive.stat().st_size / 1e6:.0f} MB of it new"):
            import_archive(shape, archive)


def write_missing_layers(layout: Path, reference: str, present: set[str], archive: Path) -> None:
    """An OCI archive of a stored image, without the layers whose digests are `present` in the cluster already.

    Source of the layout: the OCI image specification, "Image Layout"; the annotation is the one by which containerd
    names what it imports.
    """
    manifest_bytes = (layout / "manifest.json").read_bytes()
    manifest: dict[str, Any] = json.loads(manifest_bytes)
    manifest_hash = hashlib.sha256(manifest_bytes).hexdigest()
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": f"sha256:{manifest_hash}",
                "size": len(manifest_bytes),
                "annotations": {"io.containerd.image.name": reference},
            }
        ],
    }
    digests = [manifest["config"]["digest"]]
    digests += [layer["digest"] for layer in manifest["layers"] if layer["digest"] not in present]
    with tarfile.open(archive, "w") as tar:
        _add_bytes(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add_bytes(tar, "index.json", json.dumps(index).encode())
        _add_bytes(tar, f"blobs/sha256/{manifest_hash}", manifest_bytes)
        for digest in dict.fromkeys(digests):
            hexadecimal = digest.removeprefix("sha256:")
            tar.add(layout / hexadecimal, f"blobs/sha256/{hexadecimal}")


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


# --- running programs -------------------------------------------------------------------------------------------------


def _run_build(recipe: Recipe, command: list[str], environment: dict[str, str]) -> None:
    """Run a build with its output in a log; its latest step is the sign of life."""
    log = cache_dir() / "images" / f"{recipe.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    latest = ""
    with (
        log.open("w") as sink,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "BUILDAH_ISOLATION": "chroot", **environment},
        ) as process,
    ):

        def read_output() -> None:
            nonlocal latest
            for text in process.stdout or ():
                sink.write(text)
                if text.startswith(("STEP", "#", "[")):
                    latest = text.strip()[:100]

        reader = threading.Thread(target=read_output)
        with step(f"building image {recipe.name}", recipe.usual_seconds, lambda: latest):
            reader.start()
            process.wait()
            reader.join()
    if process.returncode:
        raise Trouble(
            f"building image {recipe.name} failed:\n{log.read_text(errors='replace')[-2500:]}",
            f"the whole output is in {log}",
        )
    line(f"image {recipe.name} built")


def _run(command: list[str], what: str, *, may_fail: bool = False) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode and not may_fail:
        raise Trouble(
            f"{what} failed: {result.stderr.strip()[-1500:]}",
            "run the same command again; a failed download is worth a second try",
        )
    return result.stdout
