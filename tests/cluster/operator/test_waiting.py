"""Quotas, keys, holds: what makes renders wait, and what makes them go on."""

import asyncio

import pytest
from tests.support.node import Ended, PodRun, succeed

from renderfleet_client import Resource
from renderfleet_client.errors import Invalid
from renderfleet_client.resources import JOBS, RESOURCE_QUOTAS, SECRETS
from renderfleet_crds import meta

from .conftest import SYSTEM, Body, Fleet, eventually

POLICIES = Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", namespaced=False)
BINDINGS = Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings", namespaced=False)


class Gate:
    """A program that works when it is let, and takes a moment."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.met: list[int] = []
        """How many others each found at work when it came."""
        self._inside = 0

    async def __call__(self, pod: PodRun) -> Ended:
        self.met.append(self._inside)
        self._inside += 1
        await self.open.wait()
        await asyncio.sleep(0.3)
        self._inside -= 1
        return await succeed(pod)


async def _phases(fleet: Fleet, names: list[str]) -> list[str]:
    return [((await fleet.get("VoiceJob", name)).get("status") or {}).get("phase", "") for name in names]


async def _set_pods(fleet: Fleet, pods: int) -> None:
    await fleet.cluster.patch(
        RESOURCE_QUOTAS, meta.QUOTA_NAME, {"spec": {"hard": {"pods": str(pods)}}}, fleet.namespace
    )


async def test_no_more_run_than_the_quota_allows_and_editing_it_takes_effect_both_ways(fleet: Fleet) -> None:
    gate = Gate()
    fleet.node.program = gate
    await fleet.start()
    await _set_pods(fleet, 1)
    names = [f"v{n}" for n in range(5)]
    for name in names:
        await fleet.apply("VoiceJob", name)

    waiting = await fleet.until(
        "VoiceJob", "v4", lambda one: (one.get("status") or {}).get("reason") == "QuotaExhausted"
    )
    assert waiting["status"]["phase"] == "Queued"
    assert (await _phases(fleet, names)).count("Running") == 1

    async def all_know_their_place() -> bool:
        return await _positions(fleet, names) == [1, 2, 3, 4]

    await eventually(all_know_their_place, 20)

    await _set_pods(fleet, 3)

    async def three_run() -> bool:
        return (await _phases(fleet, names)).count("Running") == 3

    async def their_pods_run() -> bool:
        return len(gate.met) == 3

    await eventually(three_run, 5)
    await eventually(their_pods_run, 20)
    await _set_pods(fleet, 1)
    gate.open.set()
    for name in names:
        one = await fleet.until("VoiceJob", name, "Succeeded", 30)
        assert len(one["status"]["attempts"]) == 1
    assert gate.met == [0, 1, 2, 0, 0], "the two that started after the quota was lowered ran alone"


async def _positions(fleet: Fleet, names: list[str]) -> list[int]:
    found = []
    for name in names:
        status = (await fleet.get("VoiceJob", name)).get("status") or {}
        if status.get("phase") == "Queued":
            found.append((status.get("queue") or {}).get("position") or 0)
    return sorted(found) if found and all(found) else []


async def test_a_job_that_gets_no_pod_goes_back_into_the_queue(fleet: Fleet) -> None:
    await fleet.start()
    stranger = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "stranger", "namespace": fleet.namespace},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 1000,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "x",
                            "image": "x",
                            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                        }
                    ],
                }
            }
        },
    }
    await fleet.cluster.create(JOBS, stranger, fleet.namespace)

    async def stranger_has_a_pod() -> bool:
        return bool((await fleet.cluster.get(JOBS, "stranger", fleet.namespace))["status"].get("active"))

    await eventually(stranger_has_a_pod)
    await fleet.apply("VoiceJob", "hello")
    await fleet.until("VoiceJob", "hello", "Succeeded")
    await _set_pods(fleet, 1)
    await fleet.apply("VoiceJob", "blocked")

    def waits_in_our_queue(one: Body) -> bool:
        status = one.get("status") or {}
        return (status.get("phase"), status.get("reason")) == ("Queued", "QuotaExhausted")

    await fleet.until("VoiceJob", "blocked", waits_in_our_queue, 30)
    await asyncio.sleep(8)  # longer than a Job is given to get a pod
    blocked = await fleet.get("VoiceJob", "blocked")
    assert waits_in_our_queue(blocked), "it was let in again though nothing had changed"
    assert len(blocked["status"].get("attempts") or ()) <= 1

    await fleet.cluster.delete(JOBS, "stranger", fleet.namespace)
    done = await fleet.until("VoiceJob", "blocked", "Succeeded", 20)
    assert all(a.get("category") in (None, "disrupted") for a in done["status"]["attempts"])


async def test_a_job_that_a_policy_refuses_is_told_and_goes_on_when_the_policy_is_gone(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("execute", "fleet"):
        monkeypatch.setattr(f"renderfleet_operator.{module}.REFUSED_SECONDS", 2.0)
    await fleet.start()
    name = f"no-jobs-in-{fleet.namespace}"
    policy = {
        "apiVersion": f"{POLICIES.group}/{POLICIES.version}",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}},
            },
            "validations": [{"expression": "false", "message": "no Jobs on Thursdays"}],
        },
    }
    binding = {
        "apiVersion": policy["apiVersion"],
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    await fleet.cluster.create(POLICIES, policy)
    await fleet.cluster.create(BINDINGS, binding)
    probe: Body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "probe", "namespace": fleet.namespace},
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}},
        },
    }

    async def is_in_force() -> bool:
        try:
            await fleet.cluster.create(JOBS, probe, fleet.namespace, dry_run=True)
        except Invalid:  # what a policy's refusal looks like
            return True
        return False

    try:
        await eventually(is_in_force)
        made = await fleet.apply("VoiceJob", "hello")

        told = await fleet.until(
            "VoiceJob", "hello", lambda one: (one.get("status") or {}).get("reason") == "JobRefused"
        )
    finally:
        await fleet.cluster.delete(BINDINGS, name)
        await fleet.cluster.delete(POLICIES, name)

    assert told["status"]["phase"] == "Queued"
    assert "no Jobs on Thursdays" in told["status"]["message"]
    assert "attempts" not in told["status"]
    done = await fleet.until("VoiceJob", "hello", "Succeeded", 30)
    assert [one["number"] for one in done["status"]["attempts"]] == [1]
    assert "JobRefused" in await fleet.events(made["metadata"]["uid"])


async def test_a_missing_key_is_waited_for_and_a_rotated_one_is_used_without_a_restart(fleet: Fleet) -> None:
    name = fleet.providers["elevenlabs"]
    await fleet.cluster.delete(SECRETS, name, SYSTEM)
    await fleet.start()
    await fleet.apply("VoiceJob", "hello")
    await fleet.until("VoiceJob", "hello", lambda one: (one.get("status") or {}).get("reason") == "CredentialsMissing")

    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"api-key": "new"}}
    await fleet.cluster.create(SECRETS, secret, SYSTEM)

    await fleet.until("VoiceJob", "hello", "Succeeded", 20)
    copy = await fleet.cluster.get(SECRETS, f"renderfleet-provider-{name}", fleet.namespace)
    assert copy["data"]["key"] == "bmV3"


async def test_a_provider_held_by_hand_stops_only_its_own_renders(fleet: Fleet) -> None:
    await fleet.start()
    await fleet.edit_provider("openai", hold=True)
    await fleet.apply("AvatarRender", "face")
    await fleet.apply("VoiceJob", "hello")

    await fleet.until("VoiceJob", "hello", "Succeeded")
    await fleet.until("AvatarRender", "face", lambda one: (one.get("status") or {}).get("reason") == "ProviderHeld")
    await fleet.edit_provider("openai", hold=False)

    await fleet.until("AvatarRender", "face", "Succeeded")


async def test_suspend_and_priority_are_heard_while_queued(fleet: Fleet) -> None:
    await fleet.start()
    await fleet.apply("VoiceJob", "hello", suspend=True)
    one = await fleet.until("VoiceJob", "hello", lambda one: (one.get("status") or {}).get("reason") == "Suspended")
    assert one["status"]["observedGeneration"] == 1

    await fleet.edit("VoiceJob", "hello", suspend=False, priority=900)

    await fleet.until("VoiceJob", "hello", "Succeeded")
