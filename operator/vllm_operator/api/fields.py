"""Vocabulary for declaring fields: bounds and free-form objects."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field
from pydantic_core import PydanticUndefined

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


def without_nulls(value: Any) -> Any:
    """A mapping without its null members, as the API server stores it; all else as it is."""
    if isinstance(value, dict) and None in value.values():
        return {key: member for key, member in value.items() if member is not None}
    return value


def as_json(value: Any) -> str:
    """A value as a manifest spells it, words without their quotes."""
    return value if isinstance(value, str) else json.dumps(value)
