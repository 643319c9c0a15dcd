"""Everything a suite needs, put together: control plane, backends, proxies, a played node, the operator; and trials in it."""

import asyncio
import base64
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from renderfleet_client import Cluster, Resource, resources
from renderfleet_cluster.places import REPOSITORY
from renderfleet_cluster.say import line
from renderfleet_crds import kinds, meta
from renderfleet_faults import scenarios, traffic
from renderfleet_faults.apiproxy import ApiProxy
from renderfleet_faults.backends import BUCKET, Backends, Standin, backends
from renderfleet_faults.manager import MODULES, PROGRAM, SYSTEM_NAMESPACE, Manager
from renderfleet_faults.node import RUNNER, RUNNER_MODULES, Node
from renderfleet_faults.nursery import nursery
from renderfleet_faults.oracle import Finding, end_state
from renderfleet_faults.plane import left_behind, plane
from renderfleet_faults.scenarios import Trial
from renderfleet_faults.stepproxy import SHARED, StepProxy
from renderfleet_faults.traps import TrapBook
from renderfleet_faults.world import World
from renderfleet_store.engine import make_engine
from renderfleet_store.media import MediaStore, StorageSettings

VENDORS = {
    "openai": ("openai/v1", "sk-standin", {"outputTokens": 30, "inputTokens": 5}),
    "elevenlabs": ("elevenlabs", "el-standin", {"characters": 100}),
    "did": ("did", "did-user:did-pass", {"credits": 200_000}),
}
"""Vendor -> path at the stand-in, key, prices in micro-units."""
SETTLE_WITHIN_SECONDS = 120.0
_INVENTORY = (
    resources.RESOURCE_QUOTAS,
    resources.LIMIT_RANGES,
    resources.NETWORK_POLICIES,
    resources.ROLES,
    resources.ROLE_BINDINGS,
    resources.SECRETS,
)
_ARCHIVE = text(
    "SELECT uid, kind, phase, run, deleted_at IS NOT NULL AS deleted,"
    " (SELECT count(*) FROM usage u WHERE u.uid = jobs.uid) AS ends FROM jobs WHERE namespace = :namespace"
)


def out_folder(suite: str) -> Path:
    """A fresh folder for the logs and results of one run; those of runs that are over are removed."""
    above = REPOSITORY / "out"
    above.mkdir(exist_ok=True)
    for left in left_behind(one.name for one in above.iterdir()):
        shutil.rmtree(above / left, ignore_errors=True)
    folder = above / f"faults-{suite}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@dataclass
class Lab:
    """See the module."""

    folder: Path
    letter: str
    cluster: Cluster
    backends: Backends
    traps: TrapBook
    api_proxy: ApiProxy
    steps: StepProxy
    node: Node
    world: World
    manager: Manager
    standin: Standin
    engine: AsyncEngine
    media: MediaStore
    _face: bytes = b""
    _speech: bytes = b""
    _made: int = 0

    async def trial(self, vendors: Sequence[str], *, makes_tenant: bool = False, concurrency: int = 4) -> Trial:
        """A fresh subject: its providers, its uploads, and its tenant, unless the story makes that itself."""
        self._made += 1
        trial = Trial(traffic.token(self.letter, self._made), self.world, self.standin)
        for vendor in vendors:
            await self._make_provider(trial.provider(vendor), trial.subject, vendor)
        if not makes_tenant:
            await scenarios.make_tenant(trial, concurrency=concurrency)
        if scenarios.DID in vendors:
            await self.media.write(scenarios.face_key(trial.namespace), self._face, "image/png")
            await self.media.write(scenarios.speech_key(trial.namespace), self._speech, "audio/mpeg")
        return trial

    async def settled(self, subjects: Iterable[str], seconds: float) -> None:
        """Wait until the operator has written nothing for any of the subjects for so long, within bounds."""
        mine = set(subjects)
        begin = time.monotonic()
        while (now := time.monotonic()) - begin < SETTLE_WITHIN_SECONDS:
            last = max((one.at for one in self.api_proxy.journal if one.subject in mine), default=0.0)
            if now - last >= seconds:
                return
            await asyncio.sleep(0.2)

    async def finding(self, trial: Trial, late: Sequence[str], seconds: float) -> Finding:
        """What a trial left behind."""
        subject = trial.subject
        rows = await self._archive(trial.namespace)
        renders = [*self.world.renders(subject), *self.world.gone[subject].values()]
        return Finding(
            state=end_state(renders, self.world.tenant(subject), rows, await self._inventory(trial.namespace)),
            jobs={task: len(uids) for task, uids in self.world.jobs[subject].items()},
            billed=await self.billed(subject),
            late_writes=late,
            seconds=seconds,
        )

    async def slots_taken(self, trial: Trial, vendors: Sequence[str]) -> int:
        """How many calls the trial's providers believe to be under way."""
        taken = 0
        for vendor in vendors:
            body = await self.cluster.get(Resource.of(kinds.RENDER_PROVIDER), trial.provider(vendor))
            taken += (body.get("status") or {}).get("inFlight") or 0
        return taken

    async def billed(self, subject: str) -> dict[str, int]:
        """Billed calls of one subject, by vendor and operation, as the vendors' own ledger has them."""
        mine = self.steps.request_ids[subject]
        entries = await self.standin.ledger()
        return dict(Counter(f"{one['vendor']}/{one['operation']}" for one in entries if one["request_id"] in mine))

    async def _make_provider(self, name: str, subject: str, vendor: str) -> None:
        path, _, prices = VENDORS[vendor]
        await self.cluster.create(
            Resource.of(kinds.RENDER_PROVIDER),
            {
                "apiVersion": meta.API_VERSION,
                "kind": kinds.RENDER_PROVIDER.kind,
                "metadata": {"name": name},
                "spec": {
                    "vendor": vendor,
                    "baseUrl": self.steps.vendor_url(subject, path),
                    "secretRef": {"name": f"vendor-{vendor}"},
                    "limits": {"inFlight": 100, "perMinute": 6000, "burst": 100},
                    "pollSeconds": 1,
                    "prices": [{"unit": unit, "micros": micros} for unit, micros in prices.items()],
                },
            },
        )

    async def _archive(self, namespace: str) -> list[dict[str, Any]]:
        async with self.engine.connect() as connection:
            found = await connection.execute(_ARCHIVE, {"namespace": namespace})
            return [dict(row) for row in found.mappings()]

    async def _inventory(self, namespace: str) -> list[str]:
        found = []
        for kind in _INVENTORY:
            listing = await self.cluster.list(kind, namespace)
            found += [f"{kind.plural}/{body['metadata']['name']} {_essence(body)}".strip() for body in listing.items]
        return found

    async def prepare(self) -> None:
        """Put the vendors' keys in place, and have a face and a voice made for stories that begin with uploads."""
        for vendor, (_, key, _) in VENDORS.items():
            secret = {"metadata": {"name": f"vendor-{vendor}"}, "stringData": {"api-key": key}}
            await self.cluster.create(resources.SECRETS, secret, SYSTEM_NAMESPACE)
        # A VideoRender's own VoiceJob uses the provider of the default name; nobody can give it another.
        await self._make_provider(scenarios.ELEVENLABS, SHARED, scenarios.ELEVENLABS)
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            images = f"{self.backends.standin_url}/openai/v1/images/generations"
            order = {"model": "gpt-image-2.6-flare", "prompt": "a friendly face", "size": "1024x1024"}
            async with session.post(images, json=order, headers={"Authorization": "Bearer sk-standin"}) as answer:
                self._face = base64.b64decode((await answer.json())["data"][0]["b64_json"])
            speech = f"{self.backends.standin_url}/elevenlabs/v1/text-to-speech/{scenarios.VOICE}"
            async with session.post(speech, json={"text": "Hello."}, headers={"xi-api-key": "el-standin"}) as answer:
                self._speech = await answer.read()


@asynccontextmanager
async def lab(
    suite: str,
    letter: str,
    *,
    runners_at_a_time: int,
    settings: dict[str, str],
    runner_settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Lab]:
    """Everything, with a running operator, for the time of the block. Settings are RENDERFLEET_* variables."""
    folder = out_folder(suite)
    traps = TrapBook()
    async with AsyncExitStack() as stack:
        line("starting object storage, stand-in and PostgreSQL")
        behind = await stack.enter_async_context(backends(folder))
        cluster = await stack.enter_async_context(plane(suite))
        world = World(cluster)
        await stack.enter_async_context(world.watching())
        steps = StepProxy(behind, traps)
        await stack.enter_async_context(steps.serving())
        scratch = folder / "node"
        scratch.mkdir()
        runners = await stack.enter_async_context(nursery(RUNNER, folder, *RUNNER_MODULES))
        node = Node(cluster, scratch, runners, at_a_time=runners_at_a_time, settings=runner_settings or {})
        steps.runners = node
        await stack.enter_async_context(node.running())

        async def kill() -> None:
            await manager.kill()

        api_proxy = ApiProxy(cluster.login, traps, kill)
        await stack.enter_async_context(api_proxy.serving())
        cradle = await stack.enter_async_context(nursery(PROGRAM, folder, *MODULES))
        manager = Manager(folder / "operator", cradle, api_proxy, behind, steps.url, settings)
        stack.push_async_callback(manager.kill)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        engine = make_engine(behind.database_url, pooled=False)
        stack.push_async_callback(engine.dispose)
        made = Lab(
            folder=folder,
            letter=letter,
            cluster=cluster,
            backends=behind,
            traps=traps,
            api_proxy=api_proxy,
            steps=steps,
            node=node,
            world=world,
            manager=manager,
            standin=Standin(behind.standin_url, session),
            engine=engine,
            media=_media(behind),
        )
        await made.prepare()
        line("starting the operator")
        await manager.start()
        line(f"the operator was ready after {manager.start_seconds[0]:.1f} s")
        keeping = asyncio.create_task(manager.keep())
        try:
            yield made
        finally:
            keeping.cancel()


def _media(behind: Backends) -> MediaStore:
    """The harness's own door to the bucket."""
    return MediaStore(
        StorageSettings(
            s3_endpoint=behind.storage_url,
            s3_bucket=BUCKET,
            s3_access_key_id=behind.access_key,
            s3_secret_access_key=behind.secret_key,
        )
    )


def _essence(body: dict[str, Any]) -> str:
    """What matters of an object in a tenant's namespace: all that somebody decided."""
    parts = {key: body[key] for key in ("spec", "rules", "subjects", "roleRef", "data") if key in body}
    return json.dumps(parts, sort_keys=True) if parts else ""


def machine() -> str:
    """How much of a machine this runs on, for the head of a report."""
    return f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
