"""The program from outside: how fast it starts, what it teaches, what it completes."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.command_line import CommandLine

from renderfleet_cli.app import app

START_SECONDS = 0.4
HEAVY = {"pydantic", "rich", "aiohttp", "httpx2", "yaml", "orjson", "asyncio"}
COMMANDS = [one.name or (one.callback.__name__ if one.callback else "") for one in app.registered_commands]


def program(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "renderfleet_cli", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_loads_nothing_heavy() -> None:
    """What costs time to load is loaded by the command that needs it."""
    code = (
        "import sys; sys.argv = ['renderfleet', '--help']\n"
        "import contextlib, io\n"
        "from renderfleet_cli.__main__ import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {name for name in HEAVY if f"'{name}'" in ran.stdout} == set()


def test_help_is_there_in_a_moment() -> None:
    """Processor time of the best of three: what others do on this machine does not count."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert program("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    assert min(spent) < START_SECONDS


@pytest.mark.parametrize(
    "words", [(), ("submit", "avatar"), ("submit", "voice"), ("submit", "video"), *((one,) for one in COMMANDS)]
)
def test_every_command_teaches_by_example(run: CommandLine, words: tuple[str, ...]) -> None:
    ran = run(*words, "--help")

    assert ran.code == 0
    if words != ("logout",):
        assert f"  {'kubectl renders' if words == () else 'renderfleet'} {' '.join(words)}" in ran.out
    assert all(len(line) < 130 for line in ran.out.splitlines())


def test_version(run: CommandLine) -> None:
    assert re.fullmatch(r"renderfleet \d+\.\d+\.\d+\n|renderfleet, from a checkout\n", run("--version").out)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("renderfleet do", "doctor"),
        ("renderfleet submit a", "avatar"),
        ("renderfleet submit avatar --siz", "--size"),
        ("renderfleet submit avatar --size 1024x15", "1024x1536"),
        ("renderfleet list --via cl", "cluster"),
    ],
)
def test_the_shell_completes(typed: str, offered: str) -> None:
    ran = program(_RENDERFLEET_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(len(typed.split()) - 1))

    assert offered in ran.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_a_script_for_each_shell(run: CommandLine, shell: str) -> None:
    ran = run("completion", shell)

    assert ran.code == 0
    assert "renderfleet" in ran.out and "_RENDERFLEET_COMPLETE" in ran.out


def test_kubectl_completes_its_plugin(run: CommandLine, tmp_path: Path) -> None:
    """kubectl runs kubectl_complete-renders with the words so far, and reads one offer per line."""
    script = tmp_path / "kubectl_complete-renders"
    script.write_text(run("completion", "kubectl").out)
    script.chmod(0o755)
    renderfleet = tmp_path / "renderfleet"
    renderfleet.write_text(f'#!/bin/sh\nexec {sys.executable} -m renderfleet_cli "$@"\n')
    renderfleet.chmod(0o755)

    ran = subprocess.run(
        [script, "submit", "vo"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.split() == ["voice", ":4"]


def test_a_reader_that_goes_away_is_no_accident(tmp_path: Path) -> None:
    ran = subprocess.run(
        f"{sys.executable} -m renderfleet_cli --help | head -1", shell=True, capture_output=True, text=True, check=True
    )

    assert ran.stdout.startswith("Usage: renderfleet")
    assert "Traceback" not in ran.stderr and "Exception" not in ran.stderr
