"""From the pydantic types to the structural schema that Kubernetes takes.

A structural schema has no references, no null types and one type a node
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema).
What pydantic writes is rewritten node by node; a keyword that this module does not know stops the
generation, so that nothing reaches a cluster by accident.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

Schema = dict[str, Any]

RULES_KEY: Final = "x-kubernetes-validations"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"
FREE_FORM_KEY: Final = "x-kubernetes-preserve-unknown-fields"

KEPT_DEFAULTS: Final = frozenset({"spec.replicas"})
"""A default is written into the user's object at admission. Only scaling needs one."""

SAFE_INTEGER: Final = 2**53 - 1
"""Largest integer that every reader of JSON keeps: the bound of counts that declare none."""

LARGE_NUMBER: Final = 10**15
"""The bound of seconds and rates that declare none."""

KEYWORDS: Final = (
    "description",
    "type",
    INT_OR_STRING,
    FREE_FORM_KEY,
    "format",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "x-kubernetes-map-type",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "maxProperties",
    "additionalProperties",
    "items",
    "required",
    "properties",
    RULES_KEY,
)
"""Every keyword that may stand in the result, in the order in which it is written."""


def structural_schema(model: type[BaseModel], path: str) -> Schema:
    """The structural schema of ``model``, whose value stands at ``path`` of the manifest.

    Raises ValueError where the types use something that Kubernetes does not take.
    """
    raw = model.model_json_schema(by_alias=True, mode="validation")
    definitions: Mapping[str, Schema] = raw.pop("$defs", {})
    return _node(raw, definitions, path)


def _node(raw: Schema, definitions: Mapping[str, Schema], path: str) -> Schema:
    raw = _resolved(raw, definitions)
    node = {key: value for key, value in raw.items() if key not in ("title", "default")}
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if "enum" in node:
        node.pop("pattern", None)  # the same values twice would be refused twice
        node.pop("maxLength", None)
    if path in KEPT_DEFAULTS:
        node["default"] = raw["default"]
    if node.get("type") in ("integer", "number"):
        node = _bounded(node)
    if "properties" in node:
        node = _object(node, definitions, path)
    if isinstance(node.get("additionalProperties"), bool):
        del node["additionalProperties"]  # free-form, or closed as every structural object is
    if "additionalProperties" in node:
        node["additionalProperties"] = _node(node["additionalProperties"], definitions, f"{path}.*")
    if "items" in node:
        node["items"] = _node(node["items"], definitions, f"{path}[]")
    return _ordered(node, path)


def _object(node: Schema, definitions: Mapping[str, Schema], path: str) -> Schema:
    properties = {
        name: _node(member, definitions, f"{path}.{name}")
        for name, member in node["properties"].items()
    }
    return {**node, "properties": properties}


def _resolved(raw: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """``raw`` without references and without the null branch of optional fields."""
    while "$ref" in raw or "anyOf" in raw:
        rest = {key: value for key, value in raw.items() if key not in ("$ref", "anyOf")}
        if "$ref" in raw:
            target = definitions[raw["$ref"].removeprefix("#/$defs/")]
        else:
            target = _united([b for b in raw["anyOf"] if b.get("type") != "null"])
        found = [*target.get(RULES_KEY, []), *rest.get(RULES_KEY, [])]
        raw = {**target, **rest} | ({RULES_KEY: found} if found else {})
    return raw


def _united(branches: list[Schema]) -> Schema:
    if len(branches) == 1:
        return branches[0]
    if sorted(branch.get("type", "") for branch in branches) != ["integer", "string"]:
        raise ValueError(f"Kubernetes takes no union but integer or string: {branches}")
    united: Schema = {INT_OR_STRING: True}
    for branch in branches:
        united |= {key: value for key, value in branch.items() if key != "type"}
    return united


def _bounded(node: Schema) -> Schema:
    """A number with its format and both bounds; a count or duration that declares none gets its."""
    if node["type"] == "number":
        return {"format": "double", "minimum": 0, "maximum": LARGE_NUMBER, **node}
    node = {"minimum": 0, "maximum": SAFE_INTEGER, **node}
    fits = node["minimum"] >= -(2**31) and node["maximum"] < 2**31
    return {"format": "int32" if fits else "int64", **node}


def _ordered(node: Schema, path: str) -> Schema:
    unknown = node.keys() - set(KEYWORDS)
    if unknown:
        raise ValueError(f"{path}: Kubernetes takes no {', '.join(sorted(unknown))}")
    ordered: Schema = {key: node[key] for key in KEYWORDS if key in node}
    if RULES_KEY in node:  # pydantic sorts the keys of what it is given
        keys = ("rule", "message", "fieldPath", "reason")
        ordered[RULES_KEY] = [{k: rule[k] for k in keys if k in rule} for rule in node[RULES_KEY]]
    return ordered
