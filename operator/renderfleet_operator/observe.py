"""Read the world around one render, once, into an Observed.

Most of it is in the caches. What is not is asked for only when it decides something: a Job that the cache does not know,
and, for an attempt that ended without a word, its run record and the vendor.

the attempt's Job                       its runner
not there, never claimed                absent (winding down: its claim is taken, lost)
not there, or finished, no result       the record: result -> ended; accepted -> adopted; claim free -> lost
                                        claim taken, no answer: the vendor's list -> adopted; else unknown
there, not ours                         foreign
there, a pod ended with "done"          ended: no need to wait for the Job to notice
there, finished, a pod left a result    ended
there, started, no pod                  starting
there, else                             working
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from renderfleet_client.cluster import Cluster
from renderfleet_client.errors import NotFound
from renderfleet_client.resources import EVENTS, JOBS, PODS
from renderfleet_crds.avatar_render import AvatarRenderSpec
from renderfleet_crds.conditions import Reason
from renderfleet_crds.contract import Charged, ExitCode, Stage
from renderfleet_crds.phases import Phase
from renderfleet_crds.render import RenderSpec
from renderfleet_crds.video_render import VideoRenderSpec
from renderfleet_crds.voice_job import VoiceJobSpec
from renderfleet_providers import costs
from renderfleet_providers.errors import VendorError
from renderfleet_store.media import MediaUnavailable

from .archive import Archive
from .cache import Cache, Key, PodEnd
from .children.job import ended_by, has_no_pod, is_ours
from .children.task import correlation
from .children.tenant import pods_of
from .clock import Clock, chance_of
from .decide.lifecycle import POD_REFUSED, TAKEN_BACK
from .decide.observed import NO_RUNNER, Dependency, Observed, Policy, Runner, RunnerSeen
from .decide.retries import NO_POD
from .decide.video import needs
from .decide.view import Body, Render
from .errors import NotYet
from .fleet import Fleet
from .record import RunRecords, prefix_of
from .times import seconds_of
from .vendors import VendorDesk, VendorWatch

log = structlog.get_logger(__name__)

LAST_WORDS_SECONDS = 45.0
"""After a runner is gone, a request it sent may still be on its way: D-ID's gateway gives up after about 29 s."""

EVENTS_EVERY_SECONDS = 12.0
"""How long a Job goes without a pod before anybody asks why, and between two such looks at a namespace's Events."""

_SPECS: Mapping[str, type[RenderSpec]] = {
    "AvatarRender": AvatarRenderSpec,
    "VoiceJob": VoiceJobSpec,
    "VideoRender": VideoRenderSpec,
}


@dataclass(slots=True)
class Observer:
    """Reads what a decision needs."""

    cluster: Cluster
    cache: Cache
    fleet: Fleet
    archive: Archive
    records: RunRecords
    desk: VendorDesk
    watch: VendorWatch
    clock: Clock
    policy: Policy
    may_report: Any = None
    """Asks whether news may be written now."""
    dependents: dict[Key, set[Key]] = field(default_factory=dict)
    """Which renders wait for a render."""
    _silent_since: dict[str, float] = field(default_factory=dict)
    """Since when an attempt's runner is known to be gone without a word, by record prefix."""
    _estimates: dict[str, tuple[list[int], int | None]] = field(default_factory=dict)
    """What a render may cost, with the generations of the providers whose prices it was worked out by."""
    _refused: dict[str, tuple[float, Mapping[str, str]]] = field(default_factory=dict)
    """By namespace: when its Events were last listed, and what they said of which Job's pod."""

    async def observe(self, key: Key, body: Body) -> Observed:
        """The world around the render `body`."""
        render = Render(body)
        phase = render.phase
        now = self.clock.now()
        provider = self.cache.providers.get(render.provider)
        spec = provider["spec"] if provider else None
        if phase is not None and phase.is_final and not render.wants_new_run:
            return Observed(
                now=now,
                may_report=self.may_report(key) if self.may_report else True,
                archived=self.archive.has_end(render),
                archive_late=self.archive.why_late(render),
                policy=self.policy,
            )
        attempt = render.open_attempt
        runner = NO_RUNNER
        if attempt is not None and (phase in (Phase.RUNNING, Phase.FINALIZING) or phase is Phase.HELD):
            runner = await self._runner(render, attempt)
        missing = next((name for name in render.providers if name not in self.cache.providers), None)
        waits = phase in (None, Phase.QUEUED, Phase.RETRYING, Phase.WAITING)
        account = self.fleet.accounts.get(render.provider)
        return Observed(
            now=now,
            chance=chance_of(render.uid, render.run, render.stage, render.attempt, len(render.attempts)),
            runner=runner,
            provider=spec,
            missing_provider=missing,
            is_tenant=render.namespace in self.cache.tenant_of,
            admitted=self.fleet.has_ticket(render.uid),
            wait=self.fleet.wait_of(render.uid) if waits else None,
            may_report=self.may_report(key) if self.may_report else True,
            dependencies=self._dependencies(key, render),
            look=self.watch.look_at(render.uid, render.vendor_job_id),
            discarded=self.watch.discarded.get(render.uid) or {},
            archived=self.archive.has_end(render),
            archive_late=self.archive.why_late(render),
            estimate_micros=self._estimate(render) if waits else None,
            expected_stage_seconds=(account.service_seconds if account else None) or 20.0,
            policy=self.policy,
        )

    def forget(self, uid: str) -> None:
        """A render is gone or at its end."""
        self._estimates.pop(uid, None)
        for prefix in [one for one in self._silent_since if f"/{uid}/" in one]:
            del self._silent_since[prefix]

    # Dependencies and money

    def _dependencies(self, key: Key, render: Render) -> dict[str, Dependency]:
        if render.kind != "VideoRender":
            return {}
        out = {}
        for what, (kind, name) in needs(render).items():
            other = Key(kind, render.namespace, name)
            self.dependents.setdefault(other, set()).add(key)
            out[what] = Dependency(kind, name, self.cache.render(other))
        return out

    def _estimate(self, render: Render) -> int | None:
        mark = [self._generation(name) for name in render.providers]
        known = self._estimates.get(render.uid)
        if known is not None and known[0] == mark:
            return known[1]
        made: int | None = None
        if any(self.desk.prices(name) for name in render.providers):
            spec = _SPECS[render.kind].model_validate(render.spec)
            made = self.desk.cost_micros(render, costs.estimate_usage(spec, render.status.get("audioSeconds")))
        self._estimates[render.uid] = (mark, made)
        return made

    def _generation(self, provider: str) -> int:
        """Grows when a provider's spec is edited; 0 while there is none."""
        body = self.cache.providers.get(provider)
        return int(body["metadata"].get("generation") or 0) if body else 0

    # The runner

    async def _runner(self, render: Render, attempt: Body) -> RunnerSeen:
        stage, number, name = Stage(attempt["stage"]), int(attempt["number"]), str(attempt["jobName"])
        job = self.cache.job(render.uid, name)
        if job is None:
            job = await self._live_job(render, name)
        prefix = prefix_of(render.uid, stage.value, int(attempt.get("run") or 0), number)
        if job is None:
            return await self._without_job(render, stage, number, prefix)
        if not is_ours(job, render, stage, number):
            return RunnerSeen(Runner.FOREIGN, detail=f"Job {name}")
        if render.phase is Phase.HELD:
            return NO_RUNNER
        ends = self.cache.pod_ends(job["metadata"]["uid"])
        for end in ends:
            result = result_of(end.message)
            if result is not None and result.get("outcome") == "done":
                return await self._ended(render, stage, result, prefix)
        finished = ended_by(job)
        since = seconds_of(job["metadata"]["creationTimestamp"])
        if finished is None:
            if "deletionTimestamp" in job["metadata"]:
                return RunnerSeen(Runner.STOPPING, since=since)
            if not has_no_pod(job):
                return RunnerSeen(Runner.WORKING, since=since)
            if self.clock.now() - since < self.policy.pod_patience_seconds:
                return RunnerSeen(Runner.STARTING, since=since)
            return await self._why_no_pod(render, job, since)
        if not ends:
            ends = await self._live_pod_ends(job)
        for end in reversed(ends):
            result = result_of(end.message)
            # Who lost the claim only knows that another process was to pay: the record and the vendor know more.
            if result is not None and end.exit_code != ExitCode.CLAIM_LOST:
                return await self._ended(render, stage, result, prefix)
        code, detail = _why(finished, ends)
        return await self._witness(render, stage, number, prefix, code=code, detail=detail)

    async def _live_job(self, render: Render, name: str) -> Body | None:
        """The Job as the API server has it: caches may lag, and what follows may pay."""
        try:
            job = await self.cluster.get(JOBS, name, render.namespace)
        except NotFound:
            return None
        self.cache.put_job(job)
        return job

    async def _live_pod_ends(self, job: Body) -> list[PodEnd]:
        about = job["metadata"]
        listed = await self.cluster.list(
            PODS, about["namespace"], label_selector=f"batch.kubernetes.io/job-name={about['name']}"
        )
        for pod in listed.items:
            self.cache.put_pod(pod)
        return self.cache.pod_ends(about["uid"])

    async def _why_no_pod(self, render: Render, job: Body, since: float) -> RunnerSeen:
        """A Job that gets no pod, and why; while nothing says why, its controller is only busy.

        A full quota is in our cache. Any other refusal is in the controller's Events.
        """
        about = job["metadata"]
        if render.status.get("reason") in TAKEN_BACK:  # it was found out, and said, before
            return RunnerSeen(Runner.STARTING, since=since)
        if self._quota_is_full(about["namespace"]):
            return RunnerSeen(Runner.STARTING, since=since, code=NO_POD)
        if self.clock.now() - since < EVENTS_EVERY_SECONDS:
            return RunnerSeen(Runner.WORKING, since=since)
        said = (await self._refusals(about["namespace"])).get(about["uid"])
        if said is None:
            return RunnerSeen(Runner.WORKING, since=since)
        code = NO_POD if "exceeded quota" in said else POD_REFUSED
        return RunnerSeen(Runner.STARTING, since=since, code=code, detail=said[:500])

    async def _refusals(self, namespace: str) -> Mapping[str, str]:
        """What the Job controller says of pods that it could not make, by their Jobs' UIDs.

        Events are dear to list: the API server has no cache of them and reads all of a namespace's to find a few. In a
        rush thousands of Jobs have no pod yet, so they are listed now and then, once for all Jobs of the namespace.
        """
        now = self.clock.now()
        listed_at, said = self._refused.get(namespace, (0.0, {}))
        if now - listed_at < EVENTS_EVERY_SECONDS:
            return said
        self._refused[namespace] = (now, said)  # who asks meanwhile is told what was known
        listed = await self.cluster.list(
            EVENTS, namespace, field_selector="involvedObject.kind=Job,reason=FailedCreate"
        )
        ordered = sorted(listed.items, key=lambda one: str(one.get("lastTimestamp") or ""))
        said = {str(one["involvedObject"].get("uid")): str(one.get("message") or "") for one in ordered}
        fresh = {name: seen for name, seen in self._refused.items() if now - seen[0] < EVENTS_EVERY_SECONDS}
        self._refused = {**fresh, namespace: (now, said)}
        return said

    def _quota_is_full(self, namespace: str) -> bool:
        allowed, used = pods_of(self.cache.quotas.get(namespace))
        return allowed is not None and used is not None and used >= allowed

    async def _without_job(self, render: Render, stage: Stage, number: int, prefix: str) -> RunnerSeen:
        if (reason := render.status.get("reason")) in TAKEN_BACK:
            code = NO_POD if reason == Reason.QUOTA_EXHAUSTED else POD_REFUSED
            return await self._witness(
                render, stage, number, prefix, code=code, detail=str(render.status.get("message"))
            )
        ending = render.is_deleting or bool(render.spec.get("cancel")) or self._run_is_over(render)
        claim = await self._read(self.records.claim(prefix))
        if claim is None and not ending and prefix not in self._silent_since:
            return RunnerSeen(Runner.ABSENT)
        return await self._witness(
            render, stage, number, prefix, code="JobGone", detail="its Job was deleted before it ended"
        )

    def _run_is_over(self, render: Render) -> bool:
        if render.started_at is None:
            return False
        return self.clock.now() >= render.started_at + int(render.spec.get("runDeadlineSeconds", 3600))

    async def _ended(self, render: Render, stage: Stage, result: Mapping[str, Any], prefix: str) -> RunnerSeen:
        whole = dict(result)
        if whole.get("outputsInRecord") or whole.get("scriptInRecord"):
            kept = await self._read(self.records.result(prefix))
            if kept is None:
                raise NotYet("the run record does not show its result yet", 1)
            whole = {**kept, "outputsInRecord": False}
        self._silent_since.pop(prefix, None)
        cost = whole.get("costMicros")
        if cost is None:
            cost = self.desk.cost_micros(render, whole.get("usage"))
        return RunnerSeen(
            Runner.ENDED,
            result=whole,
            cost_micros=cost,
            vendor_job_id=whole.get("vendorJobId"),
            script=whole.get("script"),
        )

    async def _witness(
        self, render: Render, stage: Stage, number: int, prefix: str, *, code: str, detail: str
    ) -> RunnerSeen:
        """What the record, and then the vendor, say of an attempt whose runner is gone without a word."""
        if (result := await self._read(self.records.result(prefix))) is not None:
            return await self._ended(render, stage, result, prefix)
        if await self.records.shut(prefix):
            return RunnerSeen(Runner.LOST, code=code, detail=detail)
        accepted = await self._read(self.records.accepted(prefix))
        if stage is Stage.START and accepted is not None and accepted.get("vendorJobId"):
            return RunnerSeen(Runner.ADOPTED, vendor_job_id=accepted["vendorJobId"])
        silent = self._silent_since.setdefault(prefix, self.clock.monotonic())
        if self.clock.monotonic() - silent < LAST_WORDS_SECONDS:
            return RunnerSeen(Runner.STOPPING)
        if accepted is not None:
            return RunnerSeen(
                Runner.UNKNOWN,
                charged=Charged.YES,
                code="ResultLost",
                detail=f"{detail}; the vendor had answered, but nothing was stored",
                script=accepted.get("script"),
            )
        if stage is Stage.START:
            try:
                maker = await self.desk.video_maker(render.provider)
                found = await maker.look_up(correlation(render.uid, render.run, number))
            except VendorError as failed:
                raise NotYet(f"the vendor cannot be asked: {failed.code}", 10) from failed
            if found is not None:
                return RunnerSeen(Runner.ADOPTED, vendor_job_id=found.job_id)
            return RunnerSeen(Runner.LOST, code="Disrupted", detail=f"{detail}; the vendor never got the request")
        return RunnerSeen(Runner.UNKNOWN, code="OutcomeUnknown", detail=f"{detail} after it had begun the paid call")

    async def _read(self, reading: Any) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] | None = await reading
        except MediaUnavailable as away:
            raise NotYet(f"object storage does not answer: {away}"[:200], 2) from away
        return found


def result_of(message: str) -> dict[str, Any] | None:
    """The StageResult in a termination message; None when there is none, as after an OOM kill."""
    if not message.startswith("{"):
        return None
    try:
        found = json.loads(message)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("outcome") in ("done", "refused", "broke") else None


def _why(finished: Body, ends: list[PodEnd]) -> tuple[str, str]:
    """Code and words for a runner that ended without a result."""
    if finished.get("reason") == "DeadlineExceeded":
        return "DeadlineExceeded", "it did not end in time; perhaps no node took its pod, or its image could not be had"
    if not ends:
        return str(finished.get("reason") or "RunnerLost"), str(finished.get("message") or "its pod is gone")
    last = ends[-1]
    if last.is_disrupted:
        return "Disrupted", "its pod was moved away"
    if last.reason in ("OOMKilled", "Evicted"):
        return (
            last.reason,
            "it needed more memory than its pool gives"
            if last.reason == "OOMKilled"
            else "its node was short of something",
        )
    return "RunnerCrashed", f"it left with exit code {last.exit_code} and no result"
