"""What a plan learned from an engine that did not start: upper bounds of what nobody pinned. Pure.

Bounds and not values: the planner still finds the layout, and may end below them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vllm_operator.engine.failures import RepairKind

REPAIR_LIMIT: Final = 3
"""Repairs of one specification; an engine that does not start after them needs a person."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One repair of a plan."""

    kind: RepairKind
    limit: float
    """The largest value that the plan may have: tokens, a fraction, or sequences."""
    reason: str
    """The number of the repair, and what the engine had said."""

    def to_json_object(self) -> dict[str, Any]:
        """The repair as plain JSON, for pinning."""
        return {"kind": self.kind, "limit": self.limit, "reason": self.reason}

    @classmethod
    def from_json_object(cls, document: Mapping[str, Any]) -> Repair:
        """The inverse of ``to_json_object``."""
        return cls(document["kind"], document["limit"], document["reason"])
