"""What an administrator sets, and what refuses to start."""

import pytest

from renderfleet_operator.app import shape_of
from renderfleet_operator.errors import SettingsWrong
from renderfleet_operator.settings import load

NEEDED = {
    "RENDERFLEET_SYSTEM_NAMESPACE": "renderfleet",
    "RENDERFLEET_RUNNER_IMAGE": "renderfleet/runner:1",
    "RENDERFLEET_DATABASE_URL": "postgresql+psycopg://u@db/renderfleet",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_needed_and_missing_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsWrong, match=name):
        load()


def test_a_password_is_not_in_the_settings_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERFLEET_DATABASE_URL", "postgresql://u:hunter2@db/x")

    assert "hunter2" not in repr(load())


def test_a_pool_in_the_words_of_kubernetes_reaches_the_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "RENDERFLEET_POOLS",
        '{"image-gen": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "x"}], "priorityClassName": "low"}}',
    )

    pool = shape_of(load()).pools["image-gen"]

    assert (pool["nodeSelector"], pool["tolerations"], pool["priorityClassName"]) == ({"a": "b"}, [{"key": "x"}], "low")


def test_a_pool_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERFLEET_POOLS", '{"gpu": {}}')

    with pytest.raises(SettingsWrong, match="POOLS"):
        load()


@pytest.mark.parametrize("secret", [None, "short"])
def test_callbacks_need_a_secret(monkeypatch: pytest.MonkeyPatch, secret: str | None) -> None:
    monkeypatch.setenv("RENDERFLEET_CALLBACK_URL", "https://callbacks.example")
    if secret is not None:
        monkeypatch.setenv("RENDERFLEET_CALLBACK_SECRET", secret)

    with pytest.raises(SettingsWrong, match=r"RENDERFLEET_CALLBACK_SECRET: .*at least 16 characters"):
        load()
