"""A new vendor is one file; importing the package loads no vendor's libraries."""

import subprocess
import sys
from pathlib import Path

import pytest

import renderfleet_providers
from renderfleet_crds.contract import Vendor
from renderfleet_providers.ports import PictureMaker, ScriptWriter, Speaker, TalkingVideoMaker
from renderfleet_providers.registry import adapter_class, connect

TOY = '''
"""A vendor that reads aloud for free."""
from renderfleet_providers.ports import Health, Speech


class Toy:
    def __init__(self, base_url, api_key, options, timeout_seconds):
        self.base_url = base_url

    async def warm_up(self):
        pass

    async def probe(self):
        return Health(credits_remaining=1)

    async def aclose(self):
        pass

    async def speak(self, order, answered):
        await answered("toy-1")
        return Speech([order.text.encode()], {"characters": len(order.text)})

    async def find_speech(self, order, since):
        return None


ADAPTER = Toy
'''


@pytest.fixture
def toy_vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """One file, put where the vendors' files are looked for."""
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(renderfleet_providers, "__path__", [*renderfleet_providers.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "renderfleet_providers.toy", raising=False)
    return "toy"


async def test_a_fourth_vendor_is_one_file(toy_vendor: str) -> None:
    adapter = connect(toy_vendor, "https://toy.example.test", "key")
    assert isinstance(adapter, Speaker)
    assert not isinstance(adapter, PictureMaker)
    assert (await adapter.probe()).credits_remaining == 1


@pytest.mark.parametrize("vendor", list(Vendor))
def test_every_vendor_of_the_contract_has_an_adapter(vendor: Vendor) -> None:
    abilities = {
        Vendor.OPENAI: (PictureMaker, ScriptWriter),
        Vendor.ELEVENLABS: (Speaker,),
        Vendor.DID: (TalkingVideoMaker,),
    }[vendor]
    made = connect(vendor.value, "https://vendor.example.test", "key")
    assert all(isinstance(made, ability) for ability in abilities)


@pytest.mark.parametrize("name", ["nobody", "errors", "os.path", "../did", ""])
def test_other_names_are_no_vendors(name: str) -> None:
    with pytest.raises(LookupError):
        adapter_class(name)


@pytest.mark.parametrize(
    "module", ["renderfleet_providers.registry", "renderfleet_providers.did", "renderfleet_providers.openai"]
)
def test_heavy_libraries_are_not_loaded_before_they_are_needed(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('openai', 'PIL', 'boto3') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
