"""What goes into an image's tag, and what of an image goes into a cluster."""

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from renderfleet_cluster import archive, images
from renderfleet_cluster.imagefiles import RECIPES, Recipe, content_hash, copied_paths
from renderfleet_cluster.places import REPOSITORY
from renderfleet_cluster.say import Trouble

CONTAINER_FILE = """\
FROM base AS code
# COPY commented /out
COPY lock.txt /lock.txt
COPY --chown=1:1 package \\
     other /opt/
COPY --from=elsewhere /venv /venv
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "one.Containerfile").write_text(CONTAINER_FILE)
    (tmp_path / "lock.txt").write_text("a==1")
    for package in ("package", "other"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "code.py").write_text("pass")
    return tmp_path


def hash_of(repository: Path, foundation: str = "debian") -> str:
    return content_hash(Recipe(name="one", container_file="one.Containerfile", usual_seconds=1), foundation, repository)


def test_copied_paths() -> None:
    assert copied_paths(CONTAINER_FILE) == ["lock.txt", "package", "other"]


@pytest.mark.parametrize(
    "changed", ["one.Containerfile", "lock.txt", "package/code.py", "other/code.py", "other/new.py"]
)
def test_hash_follows_what_is_copied(repository: Path, changed: str) -> None:
    before = hash_of(repository)
    file = repository / changed
    file.write_text((file.read_text() if file.exists() else "") + "\n# changed")

    assert hash_of(repository) != before


@pytest.mark.parametrize("irrelevant", ["readme.md", "package/__pycache__/code.pyc"])
def test_hash_ignores_what_is_not_in_the_image(repository: Path, irrelevant: str) -> None:
    before = hash_of(repository)
    file = repository / irrelevant
    file.parent.mkdir(exist_ok=True)
    file.write_text("new")

    assert hash_of(repository) == before


def test_hash_follows_the_foundation(repository: Path) -> None:
    assert hash_of(repository, "bookworm") != hash_of(repository, "trixie")


def test_hash_follows_the_right_to_execute(repository: Path) -> None:
    before = hash_of(repository)
    (repository / "lock.txt").chmod(0o755)

    assert hash_of(repository) != before


def test_a_file_that_is_gone_is_named(repository: Path) -> None:
    (repository / "lock.txt").unlink()

    with pytest.raises(FileNotFoundError, match=r"lock\.txt"):
        hash_of(repository)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_images_run_without_rights(recipe: Recipe) -> None:
    lines = (REPOSITORY / recipe.container_file).read_text().splitlines()

    assert "USER 10001:10001" in lines
    assert all((REPOSITORY / copied).exists() for copied in copied_paths("\n".join(lines)))


def test_the_runner_carries_no_operator_and_no_database() -> None:
    copied = copied_paths((REPOSITORY / "runners/images/runner.Containerfile").read_text())

    assert {Path(path).name for path in copied} == {
        "runner.txt",
        "renderfleet_crds",
        "renderfleet_providers",
        "renderfleet_runners",
    }


def test_checked_names() -> None:
    assert images.checked_names([]) == list(images.NAMES)
    assert images.checked_names(["s3", "api"]) == ["api", "s3"]
    with pytest.raises(Trouble, match="no image nginx"):
        images.checked_names(["nginx"])


def test_only_missing_layers_are_written(tmp_path: Path) -> None:
    layout, layers = tmp_path / "layout", {}
    layout.mkdir()
    for content in (b"base", b"code", b"config"):
        name = hashlib.sha256(content).hexdigest()
        (layout / name).write_bytes(content)
        layers[content] = f"sha256:{name}"
    manifest = {
        "config": {"digest": layers[b"config"]},
        "layers": [{"digest": layers[b"base"]}, {"digest": layers[b"code"]}],
    }
    (layout / "manifest.json").write_text(json.dumps(manifest))
    target = tmp_path / "image.tar"

    images.write_missing_layers(layout, "docker.io/renderfleet/x:1", {layers[b"base"]}, target)

    with tarfile.open(target) as tar:
        names = {Path(name).name for name in tar.getnames()}
        index = json.load(tar.extractfile("index.json") or pytest.fail("no index"))
    assert layers[b"base"].removeprefix("sha256:") not in names
    assert {layers[content].removeprefix("sha256:") for content in (b"code", b"config")} <= names
    (entry,) = index["manifests"]
    assert entry["annotations"] == {"io.containerd.image.name": "docker.io/renderfleet/x:1"}
    assert entry["digest"].removeprefix("sha256:") in names


def test_single_program_archive(tmp_path: Path) -> None:
    program, target = tmp_path / "pause", tmp_path / "pause.tar"
    program.write_bytes(b"\x7fELF")

    archive.write_single_program(target, "docker.io/renderfleet/pause:1", program)

    with tarfile.open(target) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json") or pytest.fail("no manifest"))
        config = json.load(tar.extractfile(manifest["Config"]) or pytest.fail("no config"))
        layer = (tar.extractfile(manifest["Layers"][0]) or pytest.fail("no layer")).read()
    assert manifest["RepoTags"] == ["docker.io/renderfleet/pause:1"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert config["config"]["Entrypoint"] == ["/pause"]
