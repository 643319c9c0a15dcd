import stat
from pathlib import Path

import pytest

from renderfleet_cli import profiles
from renderfleet_cli.errors import Misused
from renderfleet_cli.profiles import Profile

HERE = Profile("https://renders.test", "rf_secret")


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RENDERFLEET_URL", "RENDERFLEET_KEY", "RENDERFLEET_PROFILE", "RENDERFLEET_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_nothing_is_configured() -> None:
    assert profiles.find() is None


def test_only_the_owner_may_read_what_was_saved(own_config: Path) -> None:
    file = profiles.save("default", HERE)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [one.name for one in file.parent.iterdir()] == ["profiles.json"], "no half-written copy is left"
    assert profiles.find() == HERE


def test_a_file_that_others_could_read_is_replaced_not_written_into() -> None:
    file = profiles.path()
    file.parent.mkdir(parents=True)
    file.write_text('{"profiles": {}}')
    file.chmod(0o644)

    profiles.save("default", HERE)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_environment_wins_over_what_was_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles.save("default", HERE)
    monkeypatch.setenv("RENDERFLEET_URL", "https://other.test/")
    monkeypatch.setenv("RENDERFLEET_KEY", "rf_other")

    assert profiles.find() == Profile("https://other.test", "rf_other")
    assert profiles.find("default") == HERE, "but not over a profile that was asked for"


def test_an_address_without_a_key_is_half_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERFLEET_URL", "https://other.test")

    with pytest.raises(Misused, match="RENDERFLEET_KEY is not"):
        profiles.find()


def test_profiles_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles.save("staging", HERE)
    monkeypatch.setenv("RENDERFLEET_PROFILE", "staging")

    assert profiles.find() == HERE
    with pytest.raises(Misused, match=r"no profile 'prod' \(saved: staging\)"):
        profiles.find("prod")
    assert profiles.forget("staging")
    assert not profiles.forget("staging")


@pytest.mark.parametrize("text", ["", "[]", '{"profiles": {"a": 1}}', '{"profiles": {"a": {"url": "x"}}}'])
def test_a_damaged_file_is_named(text: str) -> None:
    file = profiles.path()
    file.parent.mkdir(parents=True)
    file.write_text(text)

    with pytest.raises(Misused, match="is damaged"):
        profiles.find()
