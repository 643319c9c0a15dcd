"""The base of every model here, and the small types that several of them share."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict, JsonValue


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


_CEL_RESERVED = frozenset({"namespace", "package", "import", "function", "const", "let", "var", "loop", "return"})
"""Words that CEL keeps for itself; a field so called is spelled `__word__` in rules (Kubernetes' escaping)."""


def _in_cel(field: str) -> str:
    return f"__{field}__" if field in _CEL_RESERVED else field


def immutable(*fields: str) -> list[JsonValue]:
    """CEL rules that freeze `fields` (camelCase) at their first value.

    What a paid call is made from may not change under the call; ask for a new render instead.
    """
    return [
        rule(
            "has(self.{0}) == has(oldSelf.{0}) && (!has(self.{0}) || self.{0} == oldSelf.{0})".format(_in_cel(name)),
            f"{name} cannot be changed; create a new object instead",
            f".{name}",
        )
        for name in fields
    ]


MicroUnits = Annotated[int, Field(ge=0)]
"""Money as millionths of a currency unit: whole numbers, so sums are exact."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
"""Name of a Kubernetes object (RFC 1123 subdomain)."""

StorageKey = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9._/-]+$")]
"""Key of an object in the media bucket. Only characters that every vendor's URL pattern accepts unescaped."""
