"""Kubernetes events on a server: steps of its life and changes of mind, never every visit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

from vllm_operator.api.base import API_VERSION, KIND
from vllm_operator.api.canonical import digest
from vllm_operator.api.conditions import START_FAILURES, Condition
from vllm_operator.api.counting import counted
from vllm_operator.api.status import VLLMServerStatus
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.manifests.labels import FIELD_MANAGER

UNDER_WAY: Final = ("WaitingForGPU", "Unschedulable", "SchedulingGated", "Loading")
"""Reasons of Progressing that are told by an event."""

Note = tuple[Literal["Normal", "Warning"], str, str, str]
"""An event to post: type, reason, action, note."""

Step = tuple[str, Note]
"""An event of which there is one for each value of its first part, whoever posts it again."""

STEPS: Final = frozenset({"Planned", "Ready", "Scaled", *UNDER_WAY})
"""Reasons of the events that a server has in a normal life."""

NOTE_LIMIT: Final = 1000
"""In bytes; Kubernetes refuses notes of more than 1,024."""


def event(
    server: VLLMServer,
    kind: Literal["Normal", "Warning"],
    reason: str,
    action: str,
    note: str,
    *,
    now: datetime,
    instance: str,
    once: str | None = None,
) -> dict[str, Any]:
    """An ``events.k8s.io/v1`` Event that regards the server.

    ``once``: its name follows from this, so that the API server takes it a single time.
    """
    metadata = server.metadata
    name = {"generateName": f"{metadata.name}-"}
    if once is not None:
        name = {"name": f"{metadata.name}-{digest([metadata.uid, reason, once], 16)}"}
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {**name, "namespace": metadata.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": kind,
        "reason": reason,
        "action": action,
        "note": note.encode()[:NOTE_LIMIT].decode(errors="ignore"),
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": metadata.namespace,
            "name": metadata.name,
            "uid": metadata.uid,
        },
        "reportingController": FIELD_MANAGER,
        "reportingInstance": instance[:128],
    }


def steps(before: VLLMServerStatus, after: VLLMServerStatus) -> list[Step]:
    """The steps that a server took between two of its statuses.

    What is under way is told once for each specification and time without Ready: of four replicas
    that load one after the other the first is told.
    """
    old_ones, new_ones = ({c.type: c for c in each.conditions} for each in (before, after))
    generation, ready, was = after.observed_generation, new_ones["Ready"], old_ones.get("Ready")
    found: list[Step] = []
    planned, unplanned = new_ones["Planned"], old_ones.get("Planned")
    if planned.status == "True" and (unplanned is None or unplanned.status != "True"):
        found.append((f"{generation}", ("Normal", "Planned", "Plan", planned.message)))
    now, then = new_ones["Progressing"], old_ones.get("Progressing")
    if now.reason in UNDER_WAY and (then is None or then.reason != now.reason):
        once = f"{generation} {ready.last_transition_time}"
        found.append((once, ("Normal", now.reason, "Roll", now.message)))
    if ready.reason == "Ready" and (was is None or was.status != "True"):
        once = f"{generation} {was.last_transition_time if was else ''}"
        found.append((once, ("Normal", "Ready", "Serve", ready.message)))
    return found


def scaled(generation: int | None, before: int, after: int) -> Step:
    """The step of a server whose replicas were changed."""
    return (
        f"{generation}",
        ("Normal", "Scaled", "Scale", f"from {before} to {counted(after, 'replica')}"),
    )


def warnings(before: Sequence[Condition], after: Sequence[Condition]) -> list[Note]:
    """A warning where a condition that stops the server is new or says something new.

    Of the conditions before and after a visit. What keeps pods from starting is told once, whether
    it then stops the operator or not.
    """
    old_ones, new_ones = ({one.type: one for one in each} for each in (before, after))
    kinds = ("Planned", "Stalled", "Progressing")
    told = {old_ones[kind].reason for kind in kinds if kind in old_ones}
    for kind, failing in (("Planned", "False"), ("Stalled", "True"), ("Progressing", None)):
        old, new = old_ones.get(kind), new_ones[kind]
        reason = new.reason
        if failing is None and reason not in START_FAILURES:
            continue
        differs = reason == "VersionDiffers"
        if failing is not None and new.status != failing and not differs:
            continue
        edited = not differs and (old and old.observed_generation) != new.observed_generation
        same = old is not None and (old.status, old.reason) == (new.status, new.reason)
        news = reason not in told if reason in START_FAILURES else edited or not same
        if news:
            return [("Warning", reason, "Plan", new.message)]
    return []
