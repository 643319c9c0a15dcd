"""The simulated runner's result must be one that a real runner may hand back."""

import re

import pytest
import yaml

from renderfleet_bench import plane
from renderfleet_crds.contract import Output, StageResult

STAGES = {path.stem: yaml.safe_load(path.read_text()) for path in plane.STAGES.glob("*.yaml")}


def test_a_pod_is_taken_from_its_start_to_its_end_and_away():
    assert set(STAGES) == {"node-ready", "pod-running", "pod-done", "pod-gone"}


@pytest.mark.parametrize("word", ["name", "key", "contentType", "bytes", "sha256", "widthPx", "heightPx"])
def test_outputs_use_the_words_of_the_contract(word):
    template = STAGES["pod-done"]["spec"]["next"]["statusTemplate"]

    assert f'"{word}"' in template
    assert word in {field.alias or name for name, field in Output.model_fields.items()}


def test_the_result_uses_the_words_of_the_contract():
    template = STAGES["pod-done"]["spec"]["next"]["statusTemplate"]
    result = re.search(r"\$result := dict (.*?) }}", template)
    assert result is not None
    words = set(re.findall(r'"(\w+)"', result[1])) - {"done", "true", "req_bench"}

    assert words <= {field.alias or name for name, field in StageResult.model_fields.items()}
