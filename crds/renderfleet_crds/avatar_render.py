"""AvatarRender: a prompt becomes preview pictures of a face."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .parts import ObjectName, StorageKey, immutable
from .render import RenderSpec, RenderStatus

PROMPT_MAX_CHARACTERS = 4000


class AvatarRenderSpec(RenderSpec):
    """What the avatar shall look like."""

    model_config = ConfigDict(
        json_schema_extra=immutable(
            "provider", "prompt", "count", "size", "quality", "background", "format", "baseImageKey"
        )
    )

    provider: ObjectName = "openai"
    """The RenderProvider to use."""
    prompt: Annotated[str, Field(min_length=3, max_length=PROMPT_MAX_CHARACTERS)]
    """Description of the person, 3 to 4000 characters."""
    count: Annotated[int, Field(ge=1, le=10)] = 4
    """Number of preview pictures; each is charged."""
    size: Literal["1024x1024", "1536x1024", "1024x1536"] = "1024x1024"
    """Width x height in pixels."""
    quality: Literal["auto", "low", "medium", "high"] = "medium"
    """Detail, and with it the price, of each picture."""
    background: Literal["auto", "opaque"] = "auto"
    """Transparent ones are not offered: D-ID shows them black."""
    format: Literal["png", "jpeg"] = "png"
    """File format; D-ID reads these two only."""
    base_image_key: StorageKey | None = None
    """Edit this picture of the tenant instead of starting from nothing."""


class AvatarRenderStatus(RenderStatus):
    """How far the avatar is."""
