"""The fleet straight from its cluster: custom resources, seen and changed with the caller's own kubeconfig.

A thin synchronous face: each call steps a private event loop, which also carries the watches of `follow` while it runs.
"""

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar, cast

from renderfleet_client import Cluster, Resource, load_login, resources
from renderfleet_client.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    QuotaExceeded,
    QuotaNotReady,
    TooManyRequests,
    Unavailable,
)
from renderfleet_client.login import LoginError
from renderfleet_crds import meta
from renderfleet_crds.kinds import BY_KIND, RENDER_PROVIDER, RENDER_TENANT, RENDERS
from renderfleet_crds.phases import Phase
from renderfleet_crds.render import RenderSpec
from renderfleet_crds.render_provider import RenderProviderSpec, hold_patch
from renderfleet_providers.costs import cost_micros, estimate_usage, split_usage

from .door import Target, Via, Wanted, Wish
from .errors import CliError, Failed, Misused, NotAllowed, NotThere, Unreachable
from .rest import still_going
from .views import (
    Estimate,
    Named,
    Provider,
    Quota,
    Render,
    Surroundings,
    Tenant,
    from_resource,
    provider_from_resource,
    tenant_from,
)

T = TypeVar("T")

TENANTS: Final = Resource.of(RENDER_TENANT)
PROVIDERS: Final = Resource.of(RENDER_PROVIDER)
_RULES_NOT_CHECKED: Final = "some validation rules were not checked"
"""What the API server adds to every refusal by schema; it says nothing about the object."""
_TRIES: Final = 5
"""Broken watches in a row before the cluster counts as gone."""


class ClusterDoor:
    """Custom resources of one namespace, or of all."""

    via: Via = "cluster"

    def __init__(self, target: Target) -> None:
        try:
            login = load_login(target.kubeconfig, target.context)
        except LoginError as missing:
            raise Misused(
                str(missing), "set KUBECONFIG or --kubeconfig; `kubectl config get-contexts` lists contexts"
            ) from None
        self.namespace = target.namespace or login.default_namespace or "default"
        self.where = f"{login.server} (namespace {self.namespace})"
        self._server = login.server
        self._program = target.program
        self._runner = asyncio.Runner()
        self.cluster: Cluster = self._runner.run(_connect(login))

    def close(self) -> None:
        """Close all connections."""
        with suppress(Exception):
            self._runner.run(self.cluster.close())
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns; its ApiErrors become CliErrors."""
        try:
            return self._runner.run(work)
        except ApiError as refused:
            raise error_of(refused, self._server) from refused

    # What there is

    def renders(self, wanted: Wanted) -> list[Render]:
        """Newest first. Raises Misused for a selector that the API server does not understand."""
        return self.run(self.list_renders(wanted))

    async def list_renders(self, wanted: Wanted) -> list[Render]:
        """The same, for those who are in the loop already. Raises ApiError."""
        kinds = [BY_KIND[wanted.kind]] if wanted.kind else list(RENDERS)
        fields = []
        # A field selector knows no "or"; more than one phase is picked out below.
        if len(wanted.phases) == 1 and wanted.phases != (Phase.QUEUED,):
            fields.append(f"status.phase={wanted.phases[0]}")
        if wanted.provider:
            fields.append(f"spec.provider={wanted.provider}")
        listings = await asyncio.gather(
            *(
                self.cluster.list(
                    Resource.of(kind),
                    None if wanted.everywhere else self.namespace,
                    label_selector=wanted.selector,
                    field_selector=",".join(fields) or None,
                )
                for kind in kinds
            )
        )
        found = [
            from_resource({"apiVersion": meta.API_VERSION, "kind": kind.kind, **body})
            for kind, listing in zip(kinds, listings, strict=True)
            for body in listing.items
        ]
        if wanted.phases:
            found = [one for one in found if one.phase in wanted.phases]
        if wanted.since_seconds is not None:
            start = datetime.now(UTC) - timedelta(seconds=wanted.since_seconds)
            found = [one for one in found if one.created_at and one.created_at >= start]
        found.sort(key=lambda one: (one.created_at or datetime.min.replace(tzinfo=UTC), one.name), reverse=True)
        return found[: wanted.limit]

    def find(self, name: Named, *, everywhere: bool = False) -> list[Render]:
        """All renders that the name may mean: one of each kind, and with `everywhere` of each namespace."""
        return self.run(self._find(name, everywhere))

    async def _find(self, name: Named, everywhere: bool) -> list[Render]:
        kinds = [BY_KIND[name.kind]] if name.kind else list(RENDERS)
        found: list[Render] = []
        for kind in kinds:
            listing = await self.cluster.list(
                Resource.of(kind),
                None if everywhere else self.namespace,
                field_selector=f"metadata.name={name.name}",
            )
            found += [
                from_resource({"apiVersion": meta.API_VERSION, "kind": kind.kind, **one}) for one in listing.items
            ]
        return found

    def providers(self) -> list[Provider] | None:
        """All vendor accounts, None when these credentials may not see them."""
        listed = self.run(self._if_allowed(PROVIDERS, None))
        return None if listed is None else [provider_from_resource(one) for one in listed]

    def tenants(self) -> list[Tenant] | None:
        """All tenants, None when these credentials may not see them."""
        listed = self.run(self._if_allowed(TENANTS, None))
        if listed is None:
            return None
        return [tenant_from(one["metadata"]["name"], one.get("spec") or {}, one.get("status") or {}) for one in listed]

    def quotas(self) -> dict[str, Quota] | None:
        """Runner pods in use and allowed, by namespace; None when these credentials may not see them."""
        listed = self.run(self._if_allowed(resources.RESOURCE_QUOTAS, meta.TENANT_LABEL))
        if listed is None:
            return None
        found = ((one["metadata"]["namespace"], _quota(one)) for one in listed)
        return {namespace: quota for namespace, quota in found if quota is not None}

    def jobs(self, namespace: str | None = None) -> list[dict[str, Any]] | None:
        """Runner Jobs, None when these credentials may not see them."""
        return self.run(self._if_allowed(resources.JOBS, meta.KIND_LABEL, namespace))

    def pods(self, render: Render) -> list[dict[str, Any]]:
        """Its runner pods. Raises NotAllowed, as tenants' users may not look at pods."""
        selector = f"{meta.UID_LABEL}={render.id}"
        return self.run(self.cluster.list(resources.PODS, render.namespace, label_selector=selector)).items

    def pod_log(
        self, namespace: str, pod: str, *, follow: bool, tail_lines: int | None, timestamps: bool
    ) -> Iterator[str]:
        """Lines of a pod's log as they come."""
        lines = self.cluster.pod_log(namespace, pod, follow=follow, tail_lines=tail_lines, timestamps=timestamps)
        try:
            while (line := self.run(_next(lines))) is not None:
                yield line
        finally:
            self.run(_end(lines))

    def find_again(self, render: Render) -> Render | None:
        """The render as it is now; None when it is gone."""
        found = self.find(Named(render.name, render.kind))
        return next((one for one in found if one.id == render.id), None)

    async def _if_allowed(
        self, resource: Resource, selector: str | None, namespace: str | None = None
    ) -> list[dict[str, Any]] | None:
        try:
            return (await self.cluster.list(resource, namespace, label_selector=selector)).items
        except Forbidden:
            return None

    def surroundings(self, render: Render) -> Surroundings:
        """What these credentials may see of the things a render waits for."""
        return self.run(self._surroundings(render))

    async def _surroundings(self, render: Render) -> Surroundings:
        provider = await self._get_if_allowed(PROVIDERS, render.blocking_provider) if render.provider else None
        quota = await self._get_if_allowed(resources.RESOURCE_QUOTAS, meta.QUOTA_NAME, render.namespace)
        space = await self._get_if_allowed(resources.NAMESPACES, render.namespace)
        name = ((space or {}).get("metadata", {}).get("labels") or {}).get(meta.TENANT_LABEL)
        tenant = await self._get_if_allowed(TENANTS, name) if name else None
        return Surroundings(
            provider=provider_from_resource(provider) if provider else None,
            quota=_quota(quota) if quota else None,
            tenant=tenant_from(name, tenant.get("spec") or {}, tenant.get("status") or {}) if tenant and name else None,
            program=self._program,
        )

    async def _get_if_allowed(
        self, resource: Resource, name: str, namespace: str | None = None
    ) -> dict[str, Any] | None:
        try:
            return await self.cluster.get(resource, name, namespace)
        except (Forbidden, NotFound):
            return None

    # What is done

    def submit(self, wish: Wish) -> Render:
        """The object as the API server stored it, with our finalizer, which spares the operator a write."""
        return from_resource(self._create(wish))

    def estimate(self, wish: Wish) -> Estimate:
        """What the API server would store, at the provider's prices; when it would start is known over REST only."""
        body = self._create(wish, dry_run=True)
        spec = BY_KIND[wish.kind].spec.model_validate(body["spec"])
        own, script = split_usage(estimate_usage(cast(RenderSpec, spec)))
        prices = self._prices(body["spec"].get("provider"))
        if prices is None:
            return Estimate(kind=wish.kind, spec=body["spec"])
        micros = cost_micros(own, prices.prices)
        if script:
            writer = self._prices(body["spec"].get("scriptProvider"))
            micros += cost_micros(script, writer.prices) if writer else 0
        return Estimate(kind=wish.kind, spec=body["spec"], micros=micros, currency=prices.currency)

    def _prices(self, provider: str | None) -> RenderProviderSpec | None:
        found = self.run(self._get_if_allowed(PROVIDERS, provider)) if provider else None
        return RenderProviderSpec.model_validate(found["spec"]) if found else None

    def hold(self, provider: str, *, held: bool) -> None:
        """For administrators. Raises NotThere."""
        self.run(self.cluster.patch(PROVIDERS, provider, hold_patch(held=held)))

    def prioritize(self, render: Render, priority: int) -> Render:
        """The object with another place in the line. Raises Misused for a priority that the kind refuses."""
        return self._patch(render, {"priority": priority})

    def _create(self, wish: Wish, *, dry_run: bool = False) -> dict[str, Any]:
        kind = BY_KIND[wish.kind]
        namespace = wish.namespace or self.namespace
        body: dict[str, Any] = {
            "apiVersion": meta.API_VERSION,
            "kind": kind.kind,
            "metadata": {
                "name": wish.name or f"{kind.short}-{_token()}",
                "namespace": namespace,
                "finalizers": [meta.FINALIZER],
            },
            "spec": dict(wish.spec),
        }
        if wish.labels:
            body["metadata"]["labels"] = dict(wish.labels)
        if wish.annotations:
            body["metadata"]["annotations"] = dict(wish.annotations)
        return self.run(self.cluster.create(Resource.of(kind), body, namespace, dry_run=dry_run))

    def cancel(self, render: Render) -> Render:
        """The object after it was told to stop. Raises Failed for one that is over."""
        if render.phase.is_final:
            raise Failed(f"{render.short_ref} is over: {render.phase}", f"`{self._program} why {render.short_ref}`")
        return self._patch(render, {"cancel": True})

    def retry(self, render: Render) -> Render:
        """The object after it was told to begin anew. Raises Failed for one that succeeded or is still going."""
        if render.redrive_asked:
            return render
        if not (render.ended_badly or render.phase is Phase.HELD):
            raise Failed(
                f"{render.short_ref} is {render.phase}; only what ended badly or is held can be tried again",
                f"`{self._program} why {render.short_ref}`",
            )
        return self._patch(render, {"redrive": max(render.run, _asked(render)) + 1, "cancel": False})

    def _patch(self, render: Render, spec: dict[str, Any]) -> Render:
        resource = Resource.of(BY_KIND[render.kind])
        # The UID is a precondition: by now the name may belong to another object.
        change = {"metadata": {"uid": render.id}, "spec": spec}
        return from_resource(self.run(self.cluster.patch(resource, render.name, change, render.namespace)))

    def follow(self, renders: Sequence[Render], timeout_seconds: float | None = None) -> Iterator[Render]:
        """Each change of these objects until all are over or gone."""
        pending = {one.id: one for one in renders}
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        changes = self._changes(renders)
        try:
            while pending:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    render = self.run(_in_time(changes, left))
                except TimeoutError:
                    raise still_going(list(pending.values())) from None
                if render.id not in pending:
                    continue
                pending[render.id] = render
                yield render
                if render.is_over:
                    del pending[render.id]
        finally:
            self.run(_end(changes))

    async def _changes(self, renders: Sequence[Render]) -> AsyncIterator[Render]:
        """All changes in the collections that these renders are in; one watch for each collection."""
        news: asyncio.Queue[Render | ApiError] = asyncio.Queue()
        wanted: dict[tuple[str, str], list[Render]] = {}
        for one in renders:
            wanted.setdefault((one.kind, one.namespace), []).append(one)
        watches = [
            asyncio.create_task(self._watch(kind, namespace, group, news))
            for (kind, namespace), group in wanted.items()
        ]
        try:
            while True:
                heard = await news.get()
                if isinstance(heard, ApiError):
                    raise heard
                yield heard
        finally:
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(
        self, kind: str, namespace: str, renders: list[Render], news: "asyncio.Queue[Render | ApiError]"
    ) -> None:
        resource = Resource.of(BY_KIND[kind])
        fields = f"metadata.name={renders[0].name}" if len(renders) == 1 else None
        failures = 0
        while True:
            try:
                listing = await self.cluster.list(resource, namespace, field_selector=fields)
                there = {body["metadata"]["uid"]: body for body in listing.items}
                for one in renders:
                    body = there.get(one.id)
                    news.put_nowait(_seen(kind, body) if body else replace(one, deleted=True))
                version = listing.resource_version
                while True:
                    async for event in self.cluster.watch(
                        resource, namespace, resource_version=version, field_selector=fields
                    ):
                        failures = 0
                        version = event.object["metadata"]["resourceVersion"]
                        if event.type == "BOOKMARK":
                            continue
                        render = _seen(kind, event.object)
                        news.put_nowait(replace(render, deleted=True) if event.type == "DELETED" else render)
            except Gone:
                continue
            except ApiError as broken:
                failures += 1
                if not isinstance(broken, Unavailable | TooManyRequests) or failures >= _TRIES:
                    news.put_nowait(broken)
                    return
                await asyncio.sleep(min(5.0, 0.3 * 2**failures))


async def _connect(login: Any) -> Cluster:
    return Cluster(login, field_manager="renderfleet-cli")


async def _in_time(changes: AsyncIterator[Render], seconds: float | None) -> Render:
    async with asyncio.timeout(seconds):
        return await anext(changes)


async def _next(lines: AsyncIterator[str]) -> str | None:
    return await anext(lines, None)


async def _end(changes: AsyncIterator[Any]) -> None:
    close = getattr(changes, "aclose", None)
    if close:
        await close()


def _seen(kind: str, body: dict[str, Any]) -> Render:
    return from_resource({"apiVersion": meta.API_VERSION, "kind": kind, **body})


def _asked(render: Render) -> int:
    return int((render.raw.get("spec") or {}).get("redrive") or 0)


def _quota(body: dict[str, Any]) -> Quota | None:
    hard = ((body.get("status") or {}).get("hard") or (body.get("spec") or {}).get("hard") or {}).get("pods")
    used = ((body.get("status") or {}).get("used") or {}).get("pods") or 0
    return None if hard is None else Quota(int(used), int(hard))


def _token() -> str:
    """80 random bits that are fit for a name."""
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()


def error_of(refused: ApiError, server: str) -> CliError:
    """What a refusal of the API server means to the person at the terminal."""
    match refused:
        case QuotaExceeded():
            return Failed(
                f"the tenant's quota is used up: {refused.message}",
                "delete finished renders, or have spec.maxObjectsPerKind of the RenderTenant raised",
            )
        case QuotaNotReady() | TooManyRequests():
            return Unreachable(f"{server} is busy: {refused.message}", "try again in a moment")
        case Forbidden() if "being terminated" in refused.message:
            return Failed("the namespace is being deleted", "submit it in another one: -n NAMESPACE")
        case Forbidden():
            return NotAllowed(refused.message, "`kubectl auth can-i --list` shows what these credentials may do")
        case Invalid() if any(one.get("field") == "metadata.uid" for one in refused.causes):
            return _replaced()
        case Invalid():
            lines = [
                f"{one.get('field', '')}: {one.get('message', '')}".strip(": ").removeprefix("spec.")
                for one in refused.causes
                if _RULES_NOT_CHECKED not in one.get("message", "")
            ]
            return Misused(
                "; ".join(lines) or refused.message, "`renderfleet submit KIND --help` lists what each field takes"
            )
        case NotFound() if refused.details.get("kind") == "namespaces":
            return NotThere(refused.message, "`kubectl get rendertenants` shows which namespaces have a tenant")
        case NotFound() if not refused.details.get("name"):
            return Failed("this cluster does not know RenderFleet's kinds", "install the chart, or its crds/ alone")
        case NotFound():
            return NotThere(refused.message, "`list` shows what there is")
        case AlreadyExists():
            return Failed(refused.message, "choose another --name, or `retry` the one that is there")
        case Conflict():
            return _replaced()
        case Unavailable():
            return Unreachable(
                f"{server} does not answer: {refused.message or refused.reason}",
                "check --kubeconfig and --context; `kubectl cluster-info` asks the same server",
            )
        case _ if refused.status == 401:
            return Misused(f"{server} does not accept these credentials", "renew them in your kubeconfig")
    return Failed(f"{server}: {refused.message or refused.reason or refused.status}")


def _replaced() -> Failed:
    return Failed("it was changed or replaced at the same moment", "look at it again, and repeat the command")
