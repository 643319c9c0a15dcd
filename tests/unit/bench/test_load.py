import pytest

from renderfleet_bench.load import BareJobs, Batch, Renders, RunnerJobs, in_parallel, refuse_field_owners
from renderfleet_bench.plane import crds_named
from renderfleet_cluster.say import Trouble
from renderfleet_crds import meta
from renderfleet_crds.avatar_render import AvatarRenderSpec
from renderfleet_operator.intake import OURS

RENDERS = Renders(tenant="bench", provider="bench")
JOBS = BareJobs(namespace="bare")


def test_a_runners_job_alone_is_the_same_job_under_labels_that_the_operator_does_not_watch():
    spec = {"completions": 1, "selector": {"matchLabels": {}}, "suspend": False}
    labels = {meta.KIND_LABEL: "AvatarRender", meta.UID_LABEL: "u-1"}
    of_pod = {**labels, "batch.kubernetes.io/job-name": "x"}
    template = {"metadata": {"labels": of_pod}, "spec": {"restartPolicy": "Never"}}
    made = {"metadata": {"labels": labels}, "spec": {**spec, "template": template}}

    body = RunnerJobs("alone", model=made).body("n-1")

    unwatched = {"bench.example/kind": "AvatarRender", meta.UID_LABEL: "u-1"}
    assert body["spec"] == {
        "completions": 1,
        "template": {"metadata": {"labels": unwatched}, "spec": {"restartPolicy": "Never"}},
    }
    assert body["metadata"] == {"name": "n-1", "namespace": "alone", "labels": unwatched}
    assert OURS not in unwatched, "the operator would take the Job for one of its own"


def test_objects_without_an_account_of_their_field_owners_are_fit_to_compare():
    refuse_field_owners("pods", [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}])


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ([{"metadata": {"name": "a"}}, {"metadata": {"name": "b", "managedFields": [{}]}}], "b has managedFields"),
        ([], "there are none"),
    ],
)
def test_an_account_of_field_owners_on_one_side_ends_the_comparison(seen, said):
    with pytest.raises(Trouble, match=f"pods in x: {said}"):
        refuse_field_owners("pods in x", seen)


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (None, None),
        ("Queued", None),
        ("Running", None),
        ("Succeeded", "done"),
        ("Failed", "failed"),
        ("Held", "failed"),
    ],
)
def test_a_render_has_ended_when_its_phase_says_so(phase, expected):
    assert RENDERS.verdict({"status": {"phase": phase} if phase else {}}) == expected


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], None),
        ([{"type": "SuccessCriteriaMet", "status": "True"}], None),
        ([{"type": "Complete", "status": "True"}], "done"),
        ([{"type": "Failed", "status": "True"}], "failed"),
        ([{"type": "Complete", "status": "False"}], None),
    ],
)
def test_a_job_has_ended_when_a_condition_says_so(conditions, expected):
    assert JOBS.verdict({"status": {"conditions": conditions}}) == expected


def test_a_render_is_posted_as_the_api_posts_it():
    body = RENDERS.body("r-1")

    assert body["metadata"]["finalizers"] == [meta.FINALIZER]
    assert body["metadata"]["namespace"] == "rf-bench"
    assert AvatarRenderSpec.model_validate(body["spec"]).count == 1, "one picture, one pod"


def test_throughput_counts_from_the_first_request_to_the_last_end():
    batch = Batch(began=10.0, sent={"a": 10.0, "b": 10.5}, ended={"a": 12.0, "b": 14.0})

    assert (batch.seconds, batch.per_second, batch.latencies()) == (4.0, 0.5, [2.0, 3.5])


async def test_an_error_of_one_request_ends_the_whole_batch():
    done = []

    async def do(name: str) -> None:
        if name == "3":
            raise RuntimeError("refused")
        done.append(name)

    with pytest.raises(ExceptionGroup):
        await in_parallel(do, [str(number) for number in range(100)], concurrency=2)

    assert len(done) < 100


def test_reads_what_kubectl_applied():
    assert crds_named("customresourcedefinition.apiextensions.k8s.io/a.b serverside-applied\n") == [
        "customresourcedefinition.apiextensions.k8s.io/a.b"
    ]


def test_a_render_is_let_go_of_when_our_finalizer_is_off():
    assert not RENDERS.is_let_go(RENDERS.body("r-1"))
    assert RENDERS.is_let_go({"metadata": {"name": "r-1"}})
    assert RENDERS.is_let_go({"metadata": {"name": "r-1", "finalizers": ["somebody.else/theirs"]}})
