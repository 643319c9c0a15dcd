"""Every check of the repository that needs no running server. Prints one line per check; exits 1 when any fails."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from renderfleet_cluster import programs

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv/bin"
CODE = ["crds", "api", "operator", "runners", "hack", "tests"]
PACKAGES = [
    "crds/renderfleet_crds", "crds/renderfleet_client", "api/renderfleet_store", "api/renderfleet_api",
    "api/renderfleet_cli", "operator/renderfleet_operator", "runners/renderfleet_runners",
    "runners/renderfleet_providers", "hack/renderfleet_standin", "hack/renderfleet_cluster", "hack/renderfleet_demo",
]  # fmt: skip
OLDEST_BOTO3 = (1, 40)
REGISTRY_HOSTS = re.compile(
    r"pypi\.org|files\.pythonhosted|proxy\.golang\.org|registry\.npmjs|repo\.maven|deb\.debian\.org|static\.crates"
)  # fmt: skip


def run(*command: str) -> str | None:
    """None when the command succeeds, else what it printed."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()


def lock_is_sane() -> str | None:
    """With an unbounded name the resolver may "succeed" by choosing boto3 0.0.3."""
    found = re.search(r"^boto3==(\d+)\.(\d+)", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_BOTO3:
        return f"requirements/dev.txt holds {found[0] if found else 'no boto3'}; at least 1.40 is needed: see pyproject.toml"
    pins = {path.stem: _pins(path) for path in (ROOT / "requirements").glob("*.txt")}
    for name, own in pins.items():
        if differing := {pin for pin in own if pins["dev"].get(pin) != own[pin]}:
            return f"requirements/{name}.txt and dev.txt differ in {', '.join(sorted(differing))}: run `make lock`"
    return None


def _pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==(\S+)", path.read_text(), re.MULTILINE))


def no_registry_hosts() -> str | None:
    """Where packages come from is the machine's business; a host name here would bind the project to it."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    hits = []
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".sum", ".js"} or path == Path(__file__).resolve() or not path.is_file():
            continue
        text = path.read_text(errors="ignore")
        hits += [f"{name}: {found[0]}" for found in REGISTRY_HOSTS.finditer(text)]
    return "\n".join(hits) or None


def operator_folder_hides_nothing() -> str | None:
    """A .py file directly in operator/ would make the folder shadow Python's own `operator` module."""
    found = [path.name for path in (ROOT / "operator").glob("*.py")]
    return f"move these into operator/renderfleet_operator: {', '.join(found)}" if found else None


def charts_are_sound() -> str | None:
    """Strict lint and a full rendering with the demo's values."""
    programs.ensure([programs.HELM])
    helm = str(programs.HELM.path("helm"))
    demo = ["--values", "charts/renderfleet-demo/renderfleet-values.yaml"]
    return (
        run(helm, "lint", "--strict", "charts/renderfleet", *demo)
        or run(helm, "lint", "--strict", "charts/renderfleet-demo")
        or run(helm, "template", "renderfleet", "charts/renderfleet", *demo)
        or run(helm, "template", "demo", "charts/renderfleet-demo")
    )


CHECKS: dict[str, Callable[[], str | None]] = {
    "ruff: lint": lambda: run(f"{BIN}/ruff", "check", *CODE),
    "ruff: layout": lambda: run(f"{BIN}/ruff", "format", "--check", *CODE),
    "mypy: strict types": lambda: run(f"{BIN}/mypy", *PACKAGES, "hack/check.py", "hack/generate.py"),
    "import contracts": lambda: run(f"{BIN}/lint-imports"),
    "deptry: dependencies": lambda: run(f"{BIN}/deptry", "crds", "api", "operator", "runners", "hack"),
    "generated files": lambda: run(f"{BIN}/python", "hack/generate.py", "--check"),
    "locks": lock_is_sane,
    "no registry host names": no_registry_hosts,
    "operator/ hides nothing": operator_folder_hides_nothing,
    "charts": charts_are_sound,
}


def main() -> int:
    failed = 0
    for name, check in CHECKS.items():
        begin = time.monotonic()
        trouble = check()
        print(f"{'ok  ' if trouble is None else 'FAIL'} {name} ({time.monotonic() - begin:.1f} s)", flush=True)
        if trouble is not None:
            failed += 1
            print("     " + trouble.replace("\n", "\n     "), flush=True)
    print(f"checks: {len(CHECKS) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
