"""A fourth vendor is one file and one entry: the whole program, with just these two added, serves it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.wire import Bench

from renderfleet_cluster.places import REPOSITORY
from renderfleet_crds.contract import TASK_ENV, ExitCode, Vendor, pack_task

PACKAGES = ("crds/renderfleet_crds", "runners/renderfleet_providers", "runners/renderfleet_runners")
ENTRY = '    DID = "did"\n'
FILE = '''
"""Parrot: says what it was taught, whatever the text."""

import asyncio
from pathlib import Path

from .ports import Health, Speech


class Parrot:
    """One parrot."""

    def __init__(self, base_url, api_key, options, timeout_seconds):
        self._taught = Path(options["taught"])

    async def warm_up(self):
        """Nothing to load."""

    async def aclose(self):
        """Nothing to close."""

    async def probe(self):
        """It is always well."""
        return Health()

    async def speak(self, order, answered):
        """Paid in seeds."""
        await answered("squawk-1")
        return Speech([await asyncio.to_thread(self._taught.read_bytes)], {"seeds": 3}, "squawk-1")

    async def find_speech(self, order, since):
        """It does not remember."""
        return None


ADAPTER = Parrot
'''


@pytest.fixture
def with_a_parrot(tmp_path: Path) -> Path:
    """A copy of the program with one file and one entry more."""
    copy = tmp_path / "program"
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, copy / Path(package).name, ignore=shutil.ignore_patterns("__pycache__"))
    contract = copy / "renderfleet_crds" / "contract.py"
    text = contract.read_text()
    assert text.count(ENTRY) == 1
    contract.write_text(text.replace(ENTRY, f'{ENTRY}    PARROT = "parrot"\n'))
    (copy / "renderfleet_providers" / "parrot.py").write_text(FILE)
    return copy


def test_a_runner_speaks_through_it(bench: Bench, with_a_parrot: Path, talk_files: tuple[Path, Path]) -> None:
    access = bench.provider(Vendor.ELEVENLABS, name="polly", options={"taught": str(talk_files[1])})
    task = bench.voice(text="Anything at all.", provider=access)
    order = task.model_dump_json(by_alias=True).replace('"vendor":"elevenlabs"', '"vendor":"parrot"')

    ended = bench.run(task, **{TASK_ENV: pack_task(order), "PYTHONPATH": str(with_a_parrot)})

    assert ended.exit_code is ExitCode.DONE, ended.logs
    assert ended.result is not None
    assert ended.result.usage == {"seeds": 3}
    assert bench.store.read(ended.result.outputs[0].key) == talk_files[1].read_bytes()
    assert bench.standin.billed() == []


def test_the_cluster_takes_a_provider_of_it(with_a_parrot: Path) -> None:
    code = """
from renderfleet_crds import openapi
from renderfleet_crds.kinds import RENDER_PROVIDER
import json
print("parrot" in json.dumps(openapi.crd(RENDER_PROVIDER)))
"""
    said = subprocess.check_output([sys.executable, "-c", code], env={"PYTHONPATH": str(with_a_parrot)}, text=True)

    assert said.strip() == "True"
