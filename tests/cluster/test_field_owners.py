"""The chart's policy: what lives for seconds begins without an account of its fields' owners, and gets none later."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from tests.support.chart import Body, render

from renderfleet_client import Cluster, Resource
from renderfleet_client.errors import AlreadyExists
from renderfleet_client.resources import JOBS, NAMESPACES
from renderfleet_crds import kinds, meta

ADMISSION = "admissionregistration.k8s.io"
POLICIES = Resource(ADMISSION, "v1", "mutatingadmissionpolicies", namespaced=False)
BINDINGS = Resource(ADMISSION, "v1", "mutatingadmissionpolicybindings", namespaced=False)
KNOWS_POLICIES = (f"--api-versions={ADMISSION}/v1/MutatingAdmissionPolicy",)
AVATARS = Resource.of(kinds.AVATAR_RENDER)
OURS, STRANGERS = "rf-field-owners", "no-tenants-place"


def policy_objects(*values: str, more: tuple[str, ...] = KNOWS_POLICIES) -> list[Body]:
    """What the chart renders of the policy."""
    return [one for one in render(*values, more=more) if one["apiVersion"].startswith(ADMISSION)]


def job(name: str, namespace: str, **labels: str) -> Body:
    container = {"name": "runner", "image": "any"}
    pod = {"restartPolicy": "Never", "containers": [container]}
    about = {"name": name, "namespace": namespace, "labels": labels}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": about,
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


def avatar(name: str, namespace: str) -> Body:
    about = {"name": name, "namespace": namespace}
    return {
        "apiVersion": meta.API_VERSION,
        "kind": kinds.AVATAR_RENDER.kind,
        "metadata": about,
        "spec": {"prompt": "a sailor"},
    }


@pytest.fixture
async def ruled(cluster: Cluster) -> AsyncIterator[Cluster]:
    """A cluster where the policy is in force."""
    for name, labels in ((OURS, {meta.MANAGED_BY_LABEL: meta.MANAGED_BY}), (STRANGERS, {})):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        with suppress(AlreadyExists):
            await cluster.create(NAMESPACES, body)
    policy, binding = policy_objects()
    await cluster.create(POLICIES, policy)
    await cluster.create(BINDINGS, binding)
    for _ in range(200):
        made = await cluster.create(AVATARS, avatar("probe", OURS), OURS, dry_run=True)
        if "managedFields" not in made["metadata"]:
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail("the policy was not in force after 20 s")
    yield cluster
    await cluster.delete(BINDINGS, binding["metadata"]["name"])
    await cluster.delete(POLICIES, policy["metadata"]["name"])


async def test_owners_are_forgotten_where_nobody_applies(ruled: Cluster) -> None:
    runner = await ruled.create(JOBS, job("runner", OURS, **{meta.UID_LABEL: "some-uid"}), OURS)
    somebodys = await ruled.create(JOBS, job("theirs", OURS), OURS)
    elsewhere = await ruled.create(AVATARS, avatar("elsewhere", STRANGERS), STRANGERS)
    await ruled.create(AVATARS, avatar("posted", OURS), OURS)
    later = await ruled.patch(AVATARS, "posted", {"metadata": {"annotations": {"note": "later"}}}, OURS)

    assert "managedFields" not in runner["metadata"]
    assert "managedFields" not in later["metadata"]
    assert somebodys["metadata"]["managedFields"]
    assert elsewhere["metadata"]["managedFields"]


async def test_who_applies_keeps_the_account(ruled: Cluster) -> None:
    wanted = avatar("applied", OURS)
    wanted["metadata"]["annotations"] = {"team": "red"}
    made = await ruled.patch(AVATARS, "applied", wanted, OURS, how="apply")
    less = copy.deepcopy(wanted)
    del less["metadata"]["annotations"]

    pruned = await ruled.patch(AVATARS, "applied", less, OURS, how="apply")

    assert [one["operation"] for one in made["metadata"]["managedFields"]] == ["Apply"]
    assert "annotations" not in pruned["metadata"]


def test_it_is_left_out_on_demand_and_where_policies_are_unknown() -> None:
    assert policy_objects("trackFieldOwners=true") == []
    assert policy_objects(more=()) == []
