"""Kubernetes events on a server: written on changes of mind, never on every visit."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any, Final, Literal

from vllm_operator.api.base import API_VERSION, KIND
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import TemporaryFailure
from vllm_operator.manifests.labels import FIELD_MANAGER

from .client import EVENTS, ApiError, Client

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


async def post(client: Client, body: dict[str, Any]) -> None:
    """Post an event. One that fails is dropped: an event informs, and nothing waits for it."""
    with contextlib.suppress(ApiError, TemporaryFailure):
        await client.create(EVENTS, body["metadata"]["namespace"], body)
