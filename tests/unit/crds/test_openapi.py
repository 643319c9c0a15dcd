"""The generated schemas hold nothing that an API server refuses, and lose nothing that the models say."""

from typing import Any

import pytest
from pydantic import Field

from renderfleet_crds import kinds, openapi
from renderfleet_crds.parts import Part

REFUSED_BY_STRUCTURAL_SCHEMAS = {
    "$ref",
    "$defs",
    "anyOf",
    "oneOf",
    "const",
    "title",
    "prefixItems",
    "uniqueItems",
    "discriminator",
}


def walk(node: Any) -> Any:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


@pytest.mark.parametrize("kind", kinds.ALL, ids=lambda kind: kind.kind)
def test_schema_is_structural(kind: kinds.ResourceKind) -> None:
    schema = openapi.crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    property_names = {name for node in walk(schema) for name in node.get("properties", {})}

    keywords = {key for node in walk(schema) for key in node} - property_names

    assert keywords.isdisjoint(REFUSED_BY_STRUCTURAL_SCHEMAS)


@pytest.mark.parametrize("kind", kinds.ALL, ids=lambda kind: kind.kind)
def test_every_spec_field_is_described(kind: kinds.ResourceKind) -> None:
    spec = openapi.structural_schema(kind.spec)

    undescribed = {name for name, field in spec["properties"].items() if not field.get("description")}

    assert undescribed == set()


def test_field_text_becomes_the_description() -> None:
    spec = openapi.structural_schema(kinds.AVATAR_RENDER.spec)

    assert spec["properties"]["prompt"]["description"] == "Description of the person, 3 to 4000 characters."
    assert spec["properties"]["prompt"]["maxLength"] == 4000
    assert spec["required"] == ["prompt"]


def test_optional_field_keeps_its_constraints_without_the_null_branch() -> None:
    spec = openapi.structural_schema(kinds.VIDEO_RENDER.spec)

    assert spec["properties"]["audioUrl"]["pattern"] == r"^https://[^\s@]+$"
    assert "default" not in spec["properties"]["audioUrl"]


def test_union_of_types_is_refused_at_build_time() -> None:
    class Loose(Part):
        value: int | str

    with pytest.raises(ValueError, match=r"Loose\.value"):
        openapi.structural_schema(Loose)


def test_exclusive_bounds_become_the_boolean_form() -> None:
    class Positive(Part):
        value: float = Field(gt=0)

    field = openapi.structural_schema(Positive)["properties"]["value"]

    assert (field["minimum"], field["exclusiveMinimum"]) == (0, True)
