"""Kubernetes events on a server: written on changes of mind, never on every visit. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

from vllm_operator.api.base import API_VERSION, KIND
from vllm_operator.api.conditions import START_FAILURES
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


def warnings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Note]:
    """A warning where a condition that stops the server is new or says something new.

    Of the status before and after a visit. What keeps pods from starting is told once, whether it
    then stops the operator or not.
    """
    kinds = ("Planned", "Stalled", "Progressing")
    told = {condition(before, kind).get("reason") for kind in kinds}
    for kind, failing in (("Planned", "False"), ("Stalled", "True"), ("Progressing", None)):
        old, new = condition(before, kind), condition(after, kind)
        reason = new["reason"]
        if failing is None and reason not in START_FAILURES:
            continue
        differs = reason == "VersionDiffers"
        if failing is not None and new["status"] != failing and not differs:
            continue
        edited = old.get("observedGeneration") != new["observedGeneration"] and not differs
        news = reason not in told if reason in START_FAILURES else edited or not _same(old, new)
        if news:
            return [("Warning", reason, "Plan", new["message"])]
    return []


def condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The condition of that type; empty where there is none."""
    conditions: list[dict[str, Any]] = status.get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return (old.get("status"), old.get("reason")) == (new["status"], new["reason"])
