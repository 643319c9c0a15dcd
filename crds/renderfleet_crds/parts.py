"""The base of every model here, and the small types that several of them share."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict


class Part(BaseModel):
    """A piece of a resource. Unknown fields are ignored, so an older operator survives a newer object."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        extra="ignore",
        frozen=True,
    )

    def to_wire(self) -> dict[str, Any]:
        """The JSON form with camelCase names; unset optional values are left out, as Kubernetes likes it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rule(cel: str, message: str, field_path: str | None = None) -> JsonDict:
    """One CEL rule of a CRD schema; `message` is what the user reads, so it names the field and the cure."""
    made: JsonDict = {"rule": cel, "message": message}
    if field_path:
        made["fieldPath"] = field_path
    return made


FROZEN: Final = "x-frozen"
"""In a model's JSON Schema: the properties that keep their first value. `openapi` makes CEL rules of it."""


def immutable(*fields: str) -> JsonDict:
    """For a model's schema: freeze `fields` (camelCase) at their first value.

    What a paid call is made from may not change under the call; ask for a new render instead.
    """
    return {FROZEN: list(fields)}


MicroUnits = Annotated[int, Field(ge=0)]
"""Money as millionths of a currency unit: whole numbers, so sums are exact."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
"""Name of a Kubernetes object (RFC 1123 subdomain)."""

StorageKey = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9._/-]+$")]
"""Key of an object in the media bucket. Only characters that every vendor's URL pattern accepts unescaped."""
