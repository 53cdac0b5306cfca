"""What the status says of earlier visits: read once, typed, and the only memory there is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from pydantic import ValidationError

from vllm_operator.api.conditions import Condition
from vllm_operator.api.plan import Problem
from vllm_operator.api.status import VLLMServerStatus
from vllm_operator.api.v1alpha1 import VLLMServer


@dataclass(frozen=True, slots=True)
class Remembered:
    """The status as the visit before wrote it."""

    status: VLLMServerStatus
    """Without the plan, which stands in a pinned revision."""
    inputs_hash: str | None = None
    """Of the plan that it had."""
    product: str | None = None
    """The GPU of that plan."""
    image: str | None = None
    """The engine's image of that plan."""

    @classmethod
    def from_status(cls, status: Mapping[str, Any] | None) -> Self:
        """From the resource. Of a status that cannot be read, another release's, only the plan with
        which the server was last ready is remembered."""
        found = dict(status or {})
        plan = found.pop("plan", None) or {}
        try:
            read = VLLMServerStatus.model_validate(found)
        except ValidationError:
            good = found.get("latestReadyRevision")
            read = VLLMServerStatus(latest_ready_revision=good if isinstance(good, str) else None)
        placement, engine = plan.get("placement") or {}, plan.get("engine") or {}
        return cls(read, plan.get("inputsHash"), placement.get("gpu"), engine.get("image"))

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type."""
        return next((one for one in self.status.conditions if one.type == kind), None)

    @property
    def down_since(self) -> datetime | None:
        """Since when no replica is ready, though some are wanted."""
        available = self.condition("Available")
        if available is None or available.status != "False" or available.reason == "ScaledToZero":
            return None
        return datetime.fromisoformat(available.last_transition_time)


def read_server(body: Mapping[str, Any]) -> tuple[VLLMServer, tuple[Problem, ...]]:
    """The server, and why its specification cannot be read (stored under an older schema)."""
    try:
        return VLLMServer.model_validate(body), ()
    except ValidationError as error:
        spec = {
            "model": {"id": "unreadable"},
            "replicas": body["spec"].get("replicas", 1),
            "paused": bool(body["spec"].get("paused")),
        }
        return VLLMServer.model_validate({**body, "spec": spec}), tuple(Problem.all_of(error))


def read_as(body: Mapping[str, Any]) -> dict[str, Any]:
    """Which object was read, and at which version: what a write that builds on it begins with."""
    identity = ("name", "namespace", "uid", "resourceVersion")
    metadata = {name: body["metadata"][name] for name in identity}
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata}
