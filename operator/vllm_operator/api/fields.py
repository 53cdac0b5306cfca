"""Vocabulary for declaring fields: bounds, free-form objects, what a later release brings."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

LATER = "x-later-release"
"""Schema keyword of ours: the field is part of the contract and this release refuses it.

Its value is the one value that is accepted all the same (``None``: none). ``api.crd`` turns it
into a CEL rule on the parent, ``api.later`` into the planner's problem.
"""

FREE_FORM = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def field(
    description: str, *, default: Any = None, schema: dict[str, Any] | None = None, **bounds: Any
) -> Any:
    """An optional field (or one with a default); ``bounds`` as pydantic spells them."""
    return Field(default=default, description=description, json_schema_extra=schema, **bounds)


def required(description: str, *, schema: dict[str, Any] | None = None, **bounds: Any) -> Any:
    """A field that must be given."""
    return Field(
        default=PydanticUndefined, description=description, json_schema_extra=schema, **bounds
    )


def later(description: str, *, accepts: Any = None, **bounds: Any) -> Any:
    """A field of the contract that this release refuses instead of ignoring it."""
    schema = {**bounds.pop("schema", {}), LATER: {"accepts": accepts}}
    note = "Not available in this release: setting it is refused."
    if accepts is not None:
        note = f"In this release only {as_json(accepts)} is accepted."
    return field(f"{description} {note}", schema=schema, **bounds)


def without_nulls(value: Any) -> Any:
    """A mapping without its null members, as the API server stores it; all else as it is."""
    if isinstance(value, dict) and None in value.values():
        return {key: member for key, member in value.items() if member is not None}
    return value


def as_json(value: Any) -> str:
    """A value as a manifest spells it, words without their quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def refusal(path: str, accepts: Any) -> str:
    """What is said about a field of a later release that is set: its path and the remedy."""
    remedy = "remove it" if accepts is None else f"remove it or set it to {as_json(accepts)}"
    return f"{path} is not available in this release; {remedy}"


def later_rule(info: FieldInfo) -> dict[str, Any] | None:
    """What ``later`` wrote on a field, or None where the field is available."""
    extra = info.json_schema_extra
    if isinstance(extra, dict) and LATER in extra:
        rule = extra[LATER]
        assert isinstance(rule, dict)
        return rule
    return None
