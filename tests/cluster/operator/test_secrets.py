"""A vendor's key is where it belongs, and nowhere else: all that a fleet says or keeps is searched for it."""

import base64
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from prometheus_client import generate_latest
from tests.support.node import real_runner

from renderfleet_client.resources import CONFIG_MAPS, EVENTS, JOBS, PODS, SECRETS, Resource
from renderfleet_crds.kinds import RENDER_PROVIDER, RENDER_TENANT, RENDERS
from renderfleet_operator import log

from .conftest import VENDOR_KEYS, Fleet

VOICE = "21m00Tcm4TlvDq8ikWAM"
PARTS = [part for key in VENDOR_KEYS.values() for part in (key, *key.split(":"))]
FORMS = {form: part for part in PARTS for form in (part, base64.b64encode(part.encode()).decode())}
"""What a key looks like, whole or by halves, plain or as a header carries it."""


@pytest.fixture
def logs(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """The operator's own logging, at its most talkative; what it has said so far."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    log.set_up("DEBUG")
    structlog.configure(cache_logger_on_first_use=False)
    yield lambda: "".join(capfd.readouterr())
    structlog.configure(**before)
    root.handlers = handlers
    root.setLevel(level)


async def test_the_key_is_nowhere_but_in_its_secrets(fleet: Fleet, tmp_path: Path, logs: Callable[[], str]) -> None:
    fleet.node.program = real_runner(fleet.cluster, tmp_path)
    fleet.standin.fault("openai", "images.generations", "401_invalid_api_key", match={"prompt_contains": "refused"})
    fleet.standin.fault("elevenlabs", "text-to-speech", "401_invalid_api_key", match={"prompt_contains": "refused"})
    await fleet.start()
    await fleet.apply("VideoRender", "talk", avatarRef={"name": "face"}, script="Welcome.", voiceId=VOICE)
    await fleet.apply("AvatarRender", "face")
    await fleet.until("VideoRender", "talk", "Succeeded", 120)
    await fleet.apply("AvatarRender", "refused-face", prompt="refused")
    await fleet.apply("VoiceJob", "refused-voice", text="refused")
    for kind, name in (("AvatarRender", "refused-face"), ("VoiceJob", "refused-voice")):
        await fleet.until(kind, name, lambda one: (one.get("status") or {}).get("reason") == "ProviderHeld", 60)

    places = {
        "logs of the operator": logs(),
        "logs of the runners": "".join(file.read_text() for file in tmp_path.rglob("log")),
        "metrics": generate_latest().decode(),
        "PostgreSQL": await _rows(fleet.database),
        "run records": "".join(file.read_text() for file in fleet.object_store.folder.rglob("runs/**/*.json")),
        **{f"{resource.plural}": str(await _all(fleet, resource)) for resource in LOOKED_AT},
    }

    assert {place: FORMS[form] for place, text in places.items() for form in FORMS if form in text} == {}
    assert all(places.values()), "a place that is empty was not searched"
    secrets = str(await _all(fleet, SECRETS))
    assert all(base64.b64encode(key.encode()).decode() in secrets for key in VENDOR_KEYS.values()), "it can be found"


LOOKED_AT = (
    *(Resource.of(kind) for kind in (*RENDERS, RENDER_PROVIDER, RENDER_TENANT)),
    *(JOBS, PODS, EVENTS, CONFIG_MAPS),
)


async def _all(fleet: Fleet, resource: Resource) -> list[Any]:
    return (await fleet.cluster.list(resource)).items


async def _rows(dsn: str) -> str:
    """Every row of every table, as text."""
    async with await psycopg.AsyncConnection.connect(dsn.replace("+psycopg", "")) as connection:
        found = await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        tables = [name for (name,) in await found.fetchall()]
        texts = []
        for table in tables:
            rows = await connection.execute(
                psycopg.sql.SQL("SELECT t::text FROM {} t").format(psycopg.sql.Identifier(table))
            )
            texts += [row for (row,) in await rows.fetchall()]
    return "\n".join(texts)
