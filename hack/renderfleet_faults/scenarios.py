"""The stories that the crash suite breaks: one per kind, and one per way in which a render can go that is not the straight one.

A story starts in a tenant's namespace that is ready, makes objects as a user would, and is over when every render in it
has come to its end and is archived. What happens in it does not depend on timing, so that its golden run is the same
each time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from renderfleet_client import Resource, resources
from renderfleet_client.errors import QuotaNotReady
from renderfleet_crds import kinds, meta
from renderfleet_crds.phases import Phase
from renderfleet_faults.backends import Standin
from renderfleet_faults.world import World, phase_of
from renderfleet_standin.openai_api.script import write_script

VOICE = "21m00Tcm4TlvDq8ikWAM"
SCRIPT_CHARACTERS = 258
"""A length that the stand-in's scripts often have."""
PATIENCE_SECONDS = 180.0
"""For one story, the new operator's start included; a story that takes longer is stuck."""

_QUOTA_TRIES = 120

OPENAI, ELEVENLABS, DID = "openai", "elevenlabs", "did"
IMAGE = "openai/images.generations"
SCRIPT = "openai/responses"
SPEECH = "elevenlabs/text-to-speech"
TALK = "did/talks.create"


@dataclass
class Trial:
    """One run of a story, under one token."""

    subject: str
    world: World
    standin: Standin

    @property
    def namespace(self) -> str:
        return meta.tenant_namespace(self.subject)

    async def make(self, kind: kinds.ResourceKind, name: str, spec: Mapping[str, Any], *, as_api: bool) -> None:
        """Create a render: as the API does, with our finalizer in the POST, or as kubectl does, without."""
        metadata: dict[str, Any] = {"name": f"{name}-{self.subject}", "namespace": self.namespace}
        if as_api:
            metadata["finalizers"] = [meta.FINALIZER]
        common = {"retryPolicy": {"backoffSeconds": 1, "maxBackoffSeconds": 1}}
        body = {
            "apiVersion": meta.API_VERSION,
            "kind": kind.kind,
            "metadata": metadata,
            "spec": {**common, **spec},
        }
        for _ in range(_QUOTA_TRIES):
            try:
                await self.world.cluster.create(Resource.of(kind), body, self.namespace)
            except QuotaNotReady:
                # A new quota is charged only after Kubernetes has counted once; users try again, too.
                await asyncio.sleep(0.25)
            else:
                return
        quota = await self.world.cluster.get(resources.RESOURCE_QUOTAS, meta.QUOTA_NAME, self.namespace)
        raise TimeoutError(f"the quota of {self.namespace} never became ready: {quota}")

    async def change(self, kind: kinds.ResourceKind, name: str, spec: Mapping[str, Any]) -> None:
        """Edit a render's spec, as a user does."""
        await self.world.cluster.patch(
            Resource.of(kind), f"{name}-{self.subject}", {"spec": dict(spec)}, self.namespace
        )

    async def remove(self, kind: kinds.ResourceKind, name: str) -> None:
        """Delete a render, as a user does."""
        await self.world.cluster.delete(Resource.of(kind), f"{name}-{self.subject}", self.namespace)

    async def reaches(self, phase: Phase) -> None:
        """Wait until one of the trial's renders is in that phase."""
        await self.world.until(
            lambda: any(phase_of(body) is phase for body in self.world.renders(self.subject)),
            f"{phase} in {self.namespace}",
            PATIENCE_SECONDS,
        )

    async def is_over(self, count: int) -> None:
        """Wait until all of the trial's renders, at least `count`, have ended."""
        await self.world.until(
            lambda: self.world.is_over(self.subject, count), f"the end of {count} in {self.namespace}", PATIENCE_SECONDS
        )

    def provider(self, vendor: str) -> str:
        return f"{vendor}-{self.subject}"


@dataclass(frozen=True)
class Scenario:
    """One story."""

    name: str
    about: str
    play: Callable[[Trial], Awaitable[None]]
    paid: Mapping[str, int] = field(default_factory=dict)
    """Calls that are billed in it, by vendor and operation."""
    vendors: tuple[str, ...] = ()
    """Whose RenderProviders there are."""
    makes_tenant: bool = False
    """The story is the tenant itself, so it may not be there before."""
    concurrency: int = 4


async def _avatar(trial: Trial) -> None:
    await trial.make(kinds.AVATAR_RENDER, "avatar", avatar_spec(trial), as_api=False)
    await trial.is_over(1)


async def _voice(trial: Trial) -> None:
    await trial.make(kinds.VOICE_JOB, "voice", voice_spec(trial), as_api=True)
    await trial.is_over(1)


async def _video(trial: Trial) -> None:
    await trial.make(kinds.VIDEO_RENDER, "video", video_spec(trial), as_api=True)
    await trial.is_over(1)


async def _script(trial: Trial) -> None:
    await trial.make(kinds.AVATAR_RENDER, "avatar", avatar_spec(trial), as_api=True)
    spec = {
        "provider": trial.provider(DID),
        "avatarRef": {"name": f"avatar-{trial.subject}"},
        "script": f"Good evening from {trial.subject}.",
        "voiceId": VOICE,
    }
    await trial.make(kinds.VIDEO_RENDER, "video", spec, as_api=False)
    await trial.is_over(3)


async def _retry(trial: Trial) -> None:
    await trial.standin.add_fault(
        vendor="openai",
        operation="images.generations",
        fault="500_server_error",
        match={"prompt_contains": trial.subject},
    )
    await trial.make(kinds.AVATAR_RENDER, "avatar", avatar_spec(trial), as_api=True)
    await trial.is_over(1)


async def _redrive(trial: Trial) -> None:
    await trial.standin.add_fault(
        vendor="openai",
        operation="images.generations",
        fault="400_moderation_blocked",
        match={"prompt_contains": trial.subject},
    )
    await trial.make(kinds.AVATAR_RENDER, "avatar", avatar_spec(trial), as_api=True)
    await trial.is_over(1)
    await trial.change(kinds.AVATAR_RENDER, "avatar", {"redrive": 1})
    await trial.reaches(Phase.SUCCEEDED)
    await trial.is_over(1)


async def _cancel(trial: Trial) -> None:
    await trial.make(kinds.VOICE_JOB, "voice", {**voice_spec(trial), "suspend": True}, as_api=True)
    await trial.reaches(Phase.QUEUED)
    await trial.change(kinds.VOICE_JOB, "voice", {"cancel": True})
    await trial.is_over(1)


async def _delete(trial: Trial) -> None:
    await trial.make(kinds.VOICE_JOB, "voice", {**voice_spec(trial), "suspend": True}, as_api=True)
    await trial.reaches(Phase.QUEUED)
    await trial.remove(kinds.VOICE_JOB, "voice")
    await trial.world.until(
        lambda: len(trial.world.gone[trial.subject]) == 1, f"{trial.namespace} to be empty", PATIENCE_SECONDS
    )


async def _one_at_a_time(trial: Trial) -> None:
    for name in ("first", "second"):
        await trial.make(kinds.VOICE_JOB, name, voice_spec(trial, name), as_api=True)
    await trial.is_over(2)


async def _prompt(trial: Trial) -> None:
    await trial.make(kinds.VOICE_JOB, "voice", prompt_spec(trial), as_api=True)
    await trial.is_over(1)


async def _tenant(trial: Trial) -> None:
    await make_tenant(trial, concurrency=2)
    await tenant_ready(trial)


async def make_tenant(trial: Trial, *, concurrency: int) -> None:
    """The trial's RenderTenant."""
    await trial.world.cluster.create(
        Resource.of(kinds.RENDER_TENANT),
        {
            "apiVersion": meta.API_VERSION,
            "kind": kinds.RENDER_TENANT.kind,
            "metadata": {"name": trial.subject},
            "spec": {
                "concurrency": concurrency,
                "members": [{"kind": "User", "name": f"member-{trial.subject}"}],
            },
        },
    )


async def tenant_ready(trial: Trial) -> None:
    """Wait until the operator says that the tenant may be used."""

    def ready() -> bool:
        status = (trial.world.tenant(trial.subject) or {}).get("status") or {}
        return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", []))

    await trial.world.until(ready, f"tenant {trial.subject} to be ready", PATIENCE_SECONDS)


def avatar_spec(trial: Trial) -> dict[str, Any]:
    """One cheap picture."""
    return {
        "provider": trial.provider(OPENAI),
        "prompt": f"A friendly guide, {trial.subject}",
        "count": 1,
        "quality": "low",
    }


def voice_spec(trial: Trial, name: str = "voice") -> dict[str, Any]:
    """One short sentence."""
    return {"provider": trial.provider(ELEVENLABS), "text": f"Welcome, {name} {trial.subject}.", "voiceId": VOICE}


def wish(subject: str) -> str:
    """What a script is to be about.

    No two trials have the same words, since a lost speech is found again by them; but all have as many, since they are
    paid for by length and the cost is compared.
    """
    wishes = (f"a walk through {subject}, stop {number}" for number in range(100, 1000))
    return next(one for one in wishes if len(write_script(one)) == SCRIPT_CHARACTERS)


def prompt_spec(trial: Trial) -> dict[str, Any]:
    """A voice whose words are written first."""
    return {
        "provider": trial.provider(ELEVENLABS),
        "scriptProvider": trial.provider(OPENAI),
        "prompt": wish(trial.subject),
        "voiceId": VOICE,
    }


def video_spec(trial: Trial) -> dict[str, Any]:
    """A video from a picture and a recording that were uploaded."""
    return {
        "provider": trial.provider(DID),
        "avatarKey": face_key(trial.namespace),
        "audioKey": speech_key(trial.namespace),
    }


def face_key(namespace: str) -> str:
    """Where the trial's picture is put beforehand."""
    return f"{meta.media_prefix(namespace)}uploads/face.png"


def speech_key(namespace: str) -> str:
    """Where the trial's recording is put beforehand."""
    return f"{meta.media_prefix(namespace)}uploads/speech.mp3"


SCENARIOS = (
    Scenario("AvatarRender", "kubectl makes it, one picture comes of it", _avatar, {IMAGE: 1}, (OPENAI,)),
    Scenario("VoiceJob", "the API makes it, a text is spoken", _voice, {SPEECH: 1}, (ELEVENLABS,)),
    Scenario("VideoRender", "the API makes it, from an uploaded picture and recording", _video, {TALK: 1}, (DID,)),
    Scenario("VoiceJob, prompt", "the words are written first", _prompt, {SCRIPT: 1, SPEECH: 1}, (OPENAI, ELEVENLABS)),
    Scenario(
        "VideoRender, script",
        "waits for an AvatarRender and a VoiceJob of its own",
        _script,
        {IMAGE: 1, SPEECH: 1, TALK: 1},
        (OPENAI, DID),
    ),
    Scenario("RenderTenant", "its namespace and all that is in it", _tenant, makes_tenant=True),
    Scenario("retry", "the vendor fails once", _retry, {IMAGE: 1}, (OPENAI,)),
    Scenario("redrive", "moderated, then driven again by hand", _redrive, {IMAGE: 1}, (OPENAI,)),
    Scenario("cancel", "called off while queued", _cancel, vendors=(ELEVENLABS,)),
    Scenario("delete", "deleted while queued", _delete, vendors=(ELEVENLABS,)),
    Scenario("one at a time", "two renders, room for one", _one_at_a_time, {SPEECH: 2}, (ELEVENLABS,), concurrency=1),
)
