"""Canonical JSON and hashes of objects: equal meaning, equal text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

PLAIN: Final = frozenset({str, int, bool})
"""Types that mean what they are: most of what stands in a plan."""


def normalized(value: Any) -> Any:
    """``value`` without nulls, with whole floats as integers and keys in order.

    Client-side apply drops nulls, and YAML readers differ on how they spell a number: neither is
    a change of meaning.
    """
    if value is None or type(value) in PLAIN:
        return value
    if isinstance(value, Mapping):
        return {key: normalized(value[key]) for key in sorted(value) if value[key] is not None}
    if isinstance(value, list | tuple):
        return [normalized(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def canonical_json(value: Any) -> str:
    """The one text of everything that means the same as ``value``."""
    return json.dumps(normalized(value), sort_keys=True, separators=(",", ":"))


def digest(value: Any, length: int = 16) -> str:
    """The first ``length`` hexadecimal digits of SHA-256 over the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]
