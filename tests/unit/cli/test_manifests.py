from pathlib import Path

import pytest

from renderfleet_cli import manifests
from renderfleet_cli.errors import Misused

REPOSITORY = Path(__file__).resolve().parents[3]

VOICE = """\
apiVersion: renderfleet.dev/v1alpha1
kind: VoiceJob
metadata: {name: greeting, namespace: rf-acme, labels: {campaign: spring}}
spec: {text: Hello, voiceId: v1}
"""


def test_the_example_of_the_readme() -> None:
    wishes = manifests.read([str(REPOSITORY / "docs/examples/talking-video.yaml")])

    assert [(one.kind, one.name) for one in wishes] == [
        ("AvatarRender", "guide"),
        ("VoiceJob", "greeting"),
        ("VideoRender", "welcome"),
    ]


def test_what_a_manifest_says_is_what_is_wished_for() -> None:
    (wish,) = manifests.parse(VOICE, "v.yaml")

    assert wish.namespace == "rf-acme"
    assert wish.labels == {"campaign": "spring"}
    assert wish.spec == {"text": "Hello", "voiceId": "v1"}


def test_what_get_printed_can_be_submitted() -> None:
    listed = "apiVersion: v1\nkind: List\nitems:\n" + "".join(
        f"{'- ' if at == 0 else '  '}{line}\n" for at, line in enumerate(VOICE.splitlines())
    )

    assert [one.name for one in manifests.parse(listed, "list.yaml")] == ["greeting"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a: [", "v.yaml is no YAML", id="no yaml"),
        pytest.param("", "holds no render", id="empty"),
        pytest.param("---\n---\n", "holds no render", id="only marks"),
        pytest.param("- a\n- b\n", "not of apiVersion", id="a list"),
        pytest.param(f"{VOICE}---\n{VOICE.replace('v1alpha1', 'v9')}", "v.yaml, document 2", id="which document"),
        pytest.param(VOICE.replace("VoiceJob", "RenderTenant"), "is a RenderTenant, not one of", id="no render"),
        pytest.param(VOICE.replace("{text: Hello, voiceId: v1}", "[1]"), "metadata and spec are maps", id="spec is a list"),
    ],
)  # fmt: skip
def test_what_is_refused_says_where(text: str, said: str) -> None:
    with pytest.raises(Misused, match=said):
        manifests.parse(text, "v.yaml")
