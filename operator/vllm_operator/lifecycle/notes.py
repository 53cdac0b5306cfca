"""Kubernetes events on a server: written on changes of mind, never on every visit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

from vllm_operator.api.base import API_VERSION, KIND
from vllm_operator.api.conditions import START_FAILURES, Condition
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.manifests.labels import FIELD_MANAGER

Note = tuple[Literal["Normal", "Warning"], str, str, str]
"""An event to post: type, reason, action, note."""

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
) -> dict[str, Any]:
    """An ``events.k8s.io/v1`` Event that regards the server."""
    metadata = server.metadata
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{metadata.name}-", "namespace": metadata.namespace},
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
