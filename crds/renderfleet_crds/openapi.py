"""Turn the models into CustomResourceDefinitions that an API server accepts.

Pydantic emits JSON Schema; the API server wants a *structural* schema (KEP-2335). What is rewritten:
`$ref` is inlined · `anyOf [T, null]` becomes T (an absent field says the same) · `const` becomes a one-value `enum` ·
`exclusiveMinimum: n` becomes `minimum: n, exclusiveMinimum: true` · `uniqueItems` becomes `x-kubernetes-list-type: set`
· `title`, `additionalProperties: false`, `default: null` and `discriminator` are dropped. Tuples and open unions are
refused here, at build time, since no rewriting keeps their meaning.
"""

from typing import Any

from . import meta
from .kinds import Column, ResourceKind
from .parts import FROZEN, Part, rule

_DROPPED = frozenset({"title", "$defs", "discriminator", FROZEN})
_CEL_RESERVED = frozenset({"namespace", "package", "import", "function", "const", "let", "var", "loop", "return"})
"""Words that CEL keeps for itself; a field so called is spelled `__word__` in rules (Kubernetes' escaping)."""
Schema = dict[str, Any]


def structural_schema(model: type[Part]) -> Schema:
    """The structural schema of `model`, with its docstrings as descriptions.

    Raises ValueError for a construct that a structural schema cannot say.
    """
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _rewrite(schema, schema.get("$defs", {}), model.__name__)


def _rewrite(node: Schema, defs: dict[str, Schema], where: str) -> Schema:
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[-1]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    if "anyOf" in node:
        members = [one for one in node["anyOf"] if one.get("type") != "null"]
        if len(members) != 1:
            raise ValueError(f"{where}: a union of several types has no structural schema")
        node = {**members[0], **{key: value for key, value in node.items() if key != "anyOf"}}
        return _rewrite(node, defs, where)
    if "oneOf" in node or "prefixItems" in node:
        raise ValueError(f"{where}: oneOf and tuples have no structural schema here")

    out: Schema = {}
    for key, value in node.items():
        match key:
            case _ if key in _DROPPED:
                continue
            case "properties":
                out[key] = {name: _rewrite(part, defs, f"{where}.{name}") for name, part in value.items()}
            case "items":
                out[key] = _rewrite(value, defs, f"{where}[]")
            case "additionalProperties":
                if isinstance(value, dict):
                    out[key] = _rewrite(value, defs, f"{where}{{}}")
            case "const":
                out["enum"] = [value]
            case "exclusiveMinimum" | "exclusiveMaximum":
                out[key.replace("exclusiveM", "m")] = value
                out[key] = True
            case "uniqueItems":
                out["x-kubernetes-list-type"] = "set"
            case "default" if value is None:
                continue
            case "description":
                out[key] = " ".join(value.split())
            case "format" if value in {"uri", "binary"}:
                continue
            case _:
                out[key] = value
    if out.get("type") == "integer":
        out.setdefault("format", "int64")
    for name in node.get(FROZEN, ()):
        _freeze(out, name)
    return out


def _freeze(schema: Schema, name: str) -> None:
    """Add the rules that keep a property at its first value.

    The comparison stands at the property itself: the API server evaluates all rules at each write, also of the status,
    and there it is one comparison where at the object it would be six look-ups. A rule that compares with before is passed
    over where either is missing, so a property that may be missing needs a second one, at the object.
    """
    message = f"{name} cannot be changed; create a new object instead"
    prop = schema["properties"][name]
    _add_rule(prop, rule("self == oldSelf", message))
    if name in schema.get("required", ()) or "default" in prop:
        return
    word = f"__{name}__" if name in _CEL_RESERVED else name
    _add_rule(schema, rule(f"has(self.{word}) == has(oldSelf.{word})", message, f".{name}"))


def _add_rule(schema: Schema, made: Schema) -> None:
    schema["x-kubernetes-validations"] = [*schema.get("x-kubernetes-validations", ()), made]


def crd(kind: ResourceKind) -> Schema:
    """The CustomResourceDefinition of one kind, ready for `kubectl apply --server-side`."""
    version: Schema = {
        "name": meta.VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(one) for one in kind.columns],
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": (kind.spec.__doc__ or "").strip(),
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": structural_schema(kind.spec),
                    # One writer: who owns which field of it is nobody's question, and to keep account of that for each
                    # field and condition was a good part of what a write costs the API server.
                    "status": {**structural_schema(kind.status), "x-kubernetes-map-type": "atomic"},
                },
            }
        },
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{meta.GROUP}", "labels": {meta.MANAGED_BY_LABEL: meta.MANAGED_BY}},
        "spec": {
            "group": meta.GROUP,
            "scope": kind.scope,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short],
                "categories": [meta.CATEGORY],
            },
            "versions": [version],
        },
    }


def _column(column: Column) -> Schema:
    made: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.priority:
        made["priority"] = column.priority
    return made
