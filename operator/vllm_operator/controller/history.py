"""Writes the pinned plans of servers, and deletes those beyond their bounded history. Edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import ApiError, Stale
from vllm_operator.lifecycle.kept import Revisions
from vllm_operator.lifecycle.kinds import REVISIONS
from vllm_operator.lifecycle.records import Key
from vllm_operator.lifecycle.revisions import revision_name

from .apply import controlled_by
from .client import Client
from .metrics import Metrics
from .store import Store

Build = Callable[[int], dict[str, Any]]
"""A ControllerRevision of that number."""


class History:
    """ControllerRevisions of servers."""

    def __init__(self, client: Client, store: Store, metrics: Metrics) -> None:
        self._client = client
        self._store = store
        self._metrics = metrics

    def read(self, key: Key, server: VLLMServer, last_ready: str | None) -> Revisions:
        """What is pinned for a server; ``last_ready`` names the plan it was last ready with."""
        return Revisions(self._store.revisions(key, server.metadata.uid), last_ready)

    async def pin(
        self, key: Key, server: VLLMServer, build: Build, last_ready: str | None
    ) -> Revisions:
        """Put what ``build`` makes in force. Raises ApiError, and Stale where it is so already."""
        number = self.read(key, server, last_ready).next_number
        answer = None
        while answer is None:
            answer = await self._create(key, server, build, number)
            number += 1
        self._metrics.writes.labels(REVISIONS.kind).inc()
        self._store.observe(REVISIONS.kind, answer)
        revisions = self.read(key, server, last_ready)
        await self.tidy(key, revisions)
        return revisions

    async def tidy(self, key: Key, revisions: Revisions) -> None:
        """Delete what is beyond the bounded history, also where an earlier visit ended before."""
        for old in revisions.expendable():
            await self.delete(key, old.name)

    async def delete(self, key: Key, name: str) -> None:
        """Delete a pinned plan or trial."""
        await self._client.delete(REVISIONS, key[0], name)
        self._metrics.writes.labels(REVISIONS.kind).inc()
        self._store.forget_child(REVISIONS.kind, key, name)

    async def _create(
        self, key: Key, server: VLLMServer, build: Build, number: int
    ) -> dict[str, Any] | None:
        """The new ControllerRevision; None where its name is taken by one that is not ours.

        Raises Stale where it is ours already.
        """
        try:
            return await self._client.create(REVISIONS, key[0], build(number))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            found = await self._client.get(REVISIONS, key[0], revision_name(server, number))
            if found is not None and not controlled_by(found, server.metadata.uid):
                return None  # it stays untouched; the next number is as good
            if found is not None:
                self._store.observe(REVISIONS.kind, found)
            raise Stale(f"plan {number} was pinned before") from error
