"""AvatarRender: one stage, `generate`, which needs nothing but its provider."""

from collections.abc import Mapping
from typing import Any

from renderfleet_crds import meta
from renderfleet_crds.conditions import Reason
from renderfleet_crds.contract import Stage

from .observed import Observed
from .rules import Hopeless, Ready, Rules, outputs_of
from .view import Render


def _ready(render: Render, _: Observed) -> Ready | Hopeless:
    base = render.spec.get("baseImageKey")
    if base and not base.startswith(meta.media_prefix(render.namespace)):
        return Hopeless(Reason.FOREIGN_KEY, f"baseImageKey: {base} does not belong to this namespace")
    return Ready()


def _done(_: Render, result: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"outputs": outputs_of(result)}


RULES = Rules(ready=_ready, share={Stage.GENERATE: (5, 95)}, done=_done)
