"""VoiceJob: one stage, `synthesize`; a prompt becomes a script inside of it."""

from collections.abc import Mapping
from typing import Any

from renderfleet_crds.contract import Stage

from .observed import Observed
from .rules import Ready, Rules, outputs_of
from .view import Render


def _ready(_render: Render, _: Observed) -> Ready:
    return Ready()


def _done(_: Render, result: Mapping[str, Any]) -> Mapping[str, Any]:
    fields: dict[str, Any] = {"outputs": outputs_of(result)}
    if result.get("script"):
        fields["script"] = result["script"]
    return fields


RULES = Rules(ready=_ready, share={Stage.SYNTHESIZE: (5, 95)}, done=_done)
