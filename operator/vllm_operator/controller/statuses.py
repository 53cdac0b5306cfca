"""Writes the status of servers where it changed, and tells what changed. Edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm_operator.api.canonical import normalized
from vllm_operator.api.status import VLLMServerStatus
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import ApiError, Stale
from vllm_operator.lifecycle.kinds import SERVERS
from vllm_operator.lifecycle.notes import Note, steps, warnings
from vllm_operator.lifecycle.records import Key
from vllm_operator.lifecycle.remembered import Remembered, read_as

from .children import Children
from .client import Client
from .events import Events
from .metrics import Metrics
from .store import Store


class Statuses:
    """The one writer of ``status``."""

    def __init__(
        self, client: Client, store: Store, children: Children, metrics: Metrics, events: Events
    ) -> None:
        self._client = client
        self._store = store
        self._children = children
        self._metrics = metrics
        self._events = events

    async def write(
        self,
        key: Key,
        server: VLLMServer,
        body: dict[str, Any],
        remembered: Remembered,
        after: VLLMServerStatus,
    ) -> Sequence[Note]:
        """Write a status that differs from the one of ``body``; the warnings that it brings.

        Raises ApiError, TemporaryFailure, and Stale where the server has changed since it was read.
        """
        before, status = body.get("status") or {}, after.to_json_object()
        if status == before or normalized(status) == normalized(before):
            return []
        patch = {**read_as(body), "status": status}
        # Before the status: what is done again because that was not written is not told again.
        await self._events.post_once(server, steps(remembered.status, after))
        try:
            answer = await self._client.apply(SERVERS, key[0], key[1], patch, "status")
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            await self._children.ensure_alive(key, server)
            raise Stale(f"VLLMServer {key[1]} has changed since it was read") from error
        self._metrics.writes.labels("VLLMServer/status").inc()
        self._store.observe(SERVERS.kind, answer)
        return warnings(remembered.status.conditions, after.conditions)
