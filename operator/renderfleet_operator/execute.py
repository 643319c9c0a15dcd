"""Perform actions: one request to the API server each.

A status write carries the resourceVersion it was decided on, so a decision on an old state changes nothing; its answer
goes into the cache at once. After a refused write the rest of the list is dropped: the next look decides anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import structlog

from renderfleet_client.cluster import Cluster
from renderfleet_client.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    NotFound,
    QuotaExceeded,
    QuotaNotReady,
)
from renderfleet_client.resources import JOBS, Resource
from renderfleet_crds import meta
from renderfleet_crds.conditions import Reason
from renderfleet_crds.contract import Stage
from renderfleet_crds.kinds import RENDERS, VOICE_JOB
from renderfleet_store.media import MediaStore

from .archive import Archive
from .cache import Cache, Key
from .callbacks import Callbacks
from .children.job import PENDING_SECONDS, Shape, build_job, is_ours
from .children.task import Sources, build_task, deadline_seconds
from .clock import Clock
from .decide import actions as act
from .decide import lifecycle
from .decide.observed import Observed, Wait
from .decide.view import Body, Render
from .errors import CredentialsMissing, NotYet
from .events import Events
from .fleet import REFUSED_SECONDS, Fleet
from .metrics import Metrics
from .queue import WorkQueue
from .record import Signer
from .secrets import VendorKeys
from .times import rfc3339
from .vendors import VendorDesk, VendorWatch

log = structlog.get_logger(__name__)

RESOURCES = {kind.kind: Resource.of(kind) for kind in RENDERS}
QUOTA_PAUSE_SECONDS = 4.0
QUOTA_NOT_READY_PAUSE_SECONDS = 0.5
_URLS_OUTLIVE_JOB_SECONDS = 300
_FORBIDDEN = 403
_REFUSALS = frozenset({400, _FORBIDDEN, 413, 422})
"""Answers that the same request will get again."""
_WEBHOOK = ("denied the request", "failed calling webhook")
"""What the API server says beside whatever number an admission webhook chose, or for one that does not answer."""


@dataclass(slots=True)
class Executor:
    """The hand that writes."""

    cluster: Cluster
    cache: Cache
    fleet: Fleet
    queue: WorkQueue
    archive: Archive
    keys: VendorKeys
    media: MediaStore
    desk: VendorDesk
    watch: VendorWatch
    events: Events
    metrics: Metrics
    clock: Clock
    shape: Shape
    callbacks: Callbacks | None = None
    forget: Callable[[str], None] = lambda uid: None

    async def run(self, key: Key, todo: Sequence[act.Action], seen: Observed) -> None:
        """Perform `todo` in order; stops at the first refusal that makes the rest pointless."""
        try:
            for action in todo:
                await self._perform(key, action, seen)
        except Conflict:
            await self._reread(key)
        except NotFound:
            await self._reread(key)

    async def _perform(self, key: Key, action: act.Action, seen: Observed) -> None:
        body = self.cache.render(key)
        if body is None:
            raise NotFound(404, "NotFound", "it is gone")
        render = Render(body)
        match action:
            case act.WriteStatus():
                await self.write_status(key, render, action.status, action.note)
            case act.StartAttempt():
                await self._start(key, render, action, seen)
            case act.CreateJob():
                await self._create_job(key, render, action.stage, action.number)
            case act.StopJob():
                await self._stop_job(render)
            case act.AskAdmission():
                self.fleet.ask(key, render.uid, action)
            case act.LeaveAdmission():
                self.fleet.leave(render.uid)
                self.fleet.return_ticket(render.uid)
            case act.CreateVoiceJob():
                await self._create_voice_job(action.body)
            case act.PatchVoiceJob():
                await self._patch_voice_job(key, action)
            case act.WatchVendorJob():
                self.watch.watch(key, render.uid, render.provider, action.job_id)
            case act.DiscardVendorJob():
                await self._discard(render, action.job_id)
            case act.TellProvider():
                self.fleet.tell(action, self.keys.version(action.provider))
            case act.ChangeFinalizer():
                await self._change_finalizer(key, render, action)
            case act.DeleteRender():
                await self.cluster.delete(
                    RESOURCES[key.kind],
                    key.name,
                    key.namespace,
                    uid=render.uid,
                    resource_version=render.metadata["resourceVersion"],
                )
            case act.LookAgain():
                self.queue.put(key, after=max(0.05, action.after_seconds))
            case unknown:
                assert_never(unknown)

    # Status

    async def write_status(self, key: Key, render: Render, status: Body, note: act.Note | None = None) -> Body:
        """Make the render's status this one, if nobody changed the render since it was decided."""
        change = merge_patch(render.status, status)
        if not change:
            return render.body
        patch = {
            "metadata": {"resourceVersion": render.metadata["resourceVersion"], "uid": render.uid},
            "status": change,
        }
        written = await self.cluster.patch(
            RESOURCES[key.kind], key.name, patch, key.namespace, subresource="status", how="merge"
        )
        self.cache.put_render(written)
        self.metrics.status_written(render, Render(written), self.clock.now())
        if note is not None:
            self.events.post(written, note)
        return written

    async def _reread(self, key: Key) -> None:
        """Somebody wrote in between, or it is gone: see how it is."""
        self.fleet.wake()
        known = self.cache.version(key)
        try:
            body = await self.cluster.get(RESOURCES[key.kind], key.name, key.namespace)
        except NotFound:
            if known is not None:
                self.cache.remove_render(key, known[0])
            return
        self.cache.put_render(body)
        self.queue.put(key)

    async def _change_finalizer(self, key: Key, render: Render, action: act.ChangeFinalizer) -> None:
        others = [one for one in render.metadata.get("finalizers") or () if one != meta.FINALIZER]
        patch: Body = {
            "metadata": {
                "resourceVersion": render.metadata["resourceVersion"],
                "uid": render.uid,
                "finalizers": [*others, meta.FINALIZER] if action.to == "present" else others,
            }
        }
        if action.to == "absent":
            stamp = None if action.overdue else rfc3339(self.clock.now())
            patch["metadata"]["annotations"] = {meta.ARCHIVED_ANNOTATION: stamp}
            if action.overdue:
                self.metrics.let_go_unarchived.inc()
                log.error(
                    "let go of a render that is not archived", kind=key.kind, namespace=key.namespace, name=key.name
                )
        written = await self.cluster.patch(RESOURCES[key.kind], key.name, patch, key.namespace, how="merge")
        if action.to == "absent":
            self.archive.forget(render.uid)
            self.forget(render.uid)
        if written.get("metadata", {}).get("uid") == render.uid:
            self.cache.put_render(written)

    # Attempts

    async def _start(self, key: Key, render: Render, action: act.StartAttempt, seen: Observed) -> None:
        """Keys first, then the fence, then the Job: after a crash in between, the fence tells what to look for."""
        if action.stage is not Stage.FINALIZE:
            try:
                await self.keys.ensure(render.providers, render.namespace)
            except CredentialsMissing as missing:
                self.fleet.return_ticket(render.uid)
                wait = Wait(Reason.CREDENTIALS_MISSING, str(missing))
                for one in lifecycle.told_to_wait(render, seen, wait):
                    await self._perform(key, one, seen)
                self.queue.put(key, after=10)
                return
        if not self.fleet.has_ticket(render.uid):  # the keys took too long, and its place is another one's by now
            self.queue.put(key)
            return
        written = await self.write_status(key, render, action.status)
        await self._create_job(key, Render(written), action.stage, action.number)

    async def _create_job(self, key: Key, render: Render, stage: Stage, number: int) -> None:
        job = await self._build_job(render, stage, number)
        try:
            made = await self.cluster.create(JOBS, job, render.namespace)
        except AlreadyExists:
            await self._adopt_job(key, render, stage, number, job["metadata"]["name"])
            return
        except (QuotaExceeded, QuotaNotReady) as refused:
            if not await self._is_there(key, render, stage, number, job):
                await self._wait_for_quota(key, render, refused)
            return
        except NotFound as gone:
            raise NotYet(f"namespace {render.namespace} is going away", 30) from gone
        except ApiError as refused:
            if any(one.get("reason") == "NamespaceTerminating" for one in refused.causes):
                raise NotYet(f"namespace {render.namespace} is going away", 30) from refused
            if refused.status not in _REFUSALS and not any(words in refused.message for words in _WEBHOOK):
                raise
            if not await self._is_there(key, render, stage, number, job):
                await self._take_back_refused(key, render, refused)
            return
        self.fleet.job_made(render)
        self.cache.put_job(made)
        self.metrics.jobs_created.labels(stage.value).inc()
        self.queue.put(key, after=30)

    async def _build_job(self, render: Render, stage: Stage, number: int) -> Body:
        result_url = None
        if stage is Stage.FINALIZE:
            result_url = await self._result_url(render)
        providers = {
            name: self.cache.providers[name]["spec"] for name in render.providers if name in self.cache.providers
        }
        if missing := [name for name in render.providers if name not in providers]:
            raise NotYet(f"RenderProvider {missing[0]} is gone", 10)
        callback_url = self.callbacks.url(render.uid) if self.callbacks is not None else None
        sources = Sources(providers, result_url, callback_url)
        lives = deadline_seconds(render, stage, sources) + PENDING_SECONDS + _URLS_OUTLIVE_JOB_SECONDS
        task = build_task(render, stage, number, sources, Signer(self.media, lives))
        return build_job(render, stage, number, task=task, shape=self.shape)

    async def _result_url(self, render: Render) -> str:
        """Where the vendor's video is: asked for anew when this process has not seen it, as after a restart."""
        job_id = render.vendor_job_id
        look = self.watch.look_at(render.uid, job_id)
        if look is not None and look.result_url:
            return look.result_url
        if job_id is None:
            raise NotYet("no vendor job is known", 10)
        maker = await self.desk.video_maker(render.provider)
        seen = await maker.look(job_id)
        if not seen.result_url:
            raise NotYet("the vendor does not show the video", 10)
        return seen.result_url

    async def _adopt_job(self, key: Key, render: Render, stage: Stage, number: int, name: str) -> None:
        """The name is taken: by our own unanswered POST, or by a stranger, whom the next look will find."""
        there = await self.cluster.get(JOBS, name, render.namespace)
        if is_ours(there, render, stage, number):
            self.cache.put_job(there)
            return
        log.warning("a foreign job has our name", namespace=render.namespace, job=name)
        self.queue.put(key)

    async def _is_there(self, key: Key, render: Render, stage: Stage, number: int, job: Body) -> bool:
        """The Job is there though it is refused now: an earlier POST went through unheard, and a quota may count it."""
        try:
            await self._adopt_job(key, render, stage, number, job["metadata"]["name"])
        except NotFound:
            return False
        return True

    async def _wait_for_quota(self, key: Key, render: Render, refused: QuotaExceeded | QuotaNotReady) -> None:
        """The quota refused the Job: as if it had never been tried."""
        status = lifecycle.taken_back(
            render,
            self.clock.now(),
            Reason.QUOTA_EXHAUSTED,
            f"the namespace's quota refused its Job: {refused.message}",
        )
        await self.write_status(key, render, status)
        self.queue.put(key, after=quota_pause(refused))

    async def _take_back_refused(self, key: Key, render: Render, refused: ApiError) -> None:
        """Rights, a policy or the schema refused the Job: it waits for somebody to mend that, and has used no attempt."""
        barred = ("is forbidden", *_WEBHOOK)  # a policy says 422 and the first of these
        is_barred = refused.status == _FORBIDDEN or any(words in refused.message for words in barred)
        what = "the operator's rights and admission policies" if is_barred else "its pool's settings"
        message = f"the API server refuses its Job; see to {what}: {refused.message[:700]}"
        log.error("job refused", namespace=render.namespace, name=render.name, error=refused.message[:300])
        self.fleet.job_refused(render, message)
        status = lifecycle.taken_back(render, self.clock.now(), Reason.JOB_REFUSED, message, REFUSED_SECONDS)
        await self.write_status(key, render, status, act.Note(Reason.JOB_REFUSED.value, message, warning=True))
        self.queue.put(key, after=REFUSED_SECONDS)

    async def _stop_job(self, render: Render) -> None:
        attempt = render.open_attempt
        job = self.cache.job(render.uid, attempt["jobName"]) if attempt else None
        if job is None:
            return
        about = job["metadata"]
        try:
            # In the foreground: the Job stays until its pod is gone, so "no Job" means "nobody can pay any more".
            await self.cluster.delete(JOBS, about["name"], render.namespace, uid=about["uid"], propagation="Foreground")
        except (NotFound, Conflict):
            self.cache.remove_job(job)
            self.queue.put(Key(render.kind, render.namespace, render.name))

    # Others

    async def _create_voice_job(self, body: Body) -> None:
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        try:
            made = await self.cluster.create(RESOURCES["VoiceJob"], body, namespace)
        except AlreadyExists:
            made = await self.cluster.get(RESOURCES["VoiceJob"], name, namespace)
        except (QuotaExceeded, QuotaNotReady) as refused:
            raise NotYet(f"the quota refused VoiceJob {name}: {refused.message}", quota_pause(refused)) from refused
        self.cache.put_render(made)

    async def _patch_voice_job(self, key: Key, action: act.PatchVoiceJob) -> None:
        try:
            made = await self.cluster.patch(
                Resource.of(VOICE_JOB), action.name, {"spec": dict(action.spec)}, key.namespace, how="merge"
            )
        except NotFound:
            return
        self.cache.put_render(made)

    async def _discard(self, render: Render, job_id: str) -> None:
        """Tell the vendor, if it can be told: a courtesy that may save money, never worth an error."""
        answer: act.Answer
        try:
            maker = await self.desk.video_maker(render.provider)
            answer = "gone" if await maker.discard(job_id) else "goes on"
        except Exception as failed:
            answer = "untold"
            log.info("the vendor was not told", provider=render.provider, error=f"{type(failed).__name__}"[:200])
        else:
            log.info("the vendor was told", provider=render.provider, answer=answer)
        self.watch.discard(render.uid, job_id, answer)


def quota_pause(refused: QuotaExceeded | QuotaNotReady) -> float:
    """Seconds after which a quota may have changed its mind: one that is only not computed yet does so soon."""
    return QUOTA_NOT_READY_PAUSE_SECONDS if isinstance(refused, QuotaNotReady) else QUOTA_PAUSE_SECONDS


def merge_patch(old: Any, new: Any) -> Any:
    """The JSON merge patch (RFC 7386) that makes `new` of `old`; an empty dict when they are equal."""
    change: Body = {}
    for name, value in new.items():
        before = old.get(name)
        if before == value and name in old:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            change[name] = merge_patch(before, value)
        else:
            change[name] = value
    for name in old:
        if name not in new:
            change[name] = None
    return change
