"""The pinned plans of servers: which is in force, how one is made, and the way back. Edge."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from vllm_operator.api.v1alpha1 import VLLMServer

from .apply import controlled_by
from .changes import reason_to_roll
from .children import Stale
from .client import REVISIONS, ApiError, Client
from .metrics import Metrics
from .planning import Proposal
from .records import REVISION, Key, RevisionRecord
from .revisions import (
    Pinned,
    Refusal,
    UnreadableRevision,
    controller_revision,
    expired,
    given_up,
    pinned,
    revision_name,
)
from .store import Store

LOG: Final = logging.getLogger("vllm_operator")

Build = Callable[[int], dict[str, Any]]
"""A ControllerRevision of that number."""


class History:
    """A bounded number of ControllerRevisions for each server; the newest is in force."""

    def __init__(self, client: Client, store: Store, metrics: Metrics) -> None:
        self._client = client
        self._store = store
        self._metrics = metrics

    def in_force(self, key: Key, server: VLLMServer) -> Pinned | None:
        """The newest that can be read."""
        for record in reversed(self._store.revisions(key, server.metadata.uid)):
            try:
                return pinned(record)
            except UnreadableRevision as error:
                LOG.error("a pinned plan cannot be read", extra={"error": str(error)})
        return None

    def change(self, key: Key, server: VLLMServer, in_force: Pinned) -> str | None:
        """What made the plan in force another one than the one before it."""
        records = self._store.revisions(key, server.metadata.uid)
        for record in reversed([one for one in records if one.revision < in_force.revision]):
            try:
                return reason_to_roll(pinned(record), in_force)
            except UnreadableRevision:
                return None
        return None

    async def pin(
        self, key: Key, server: VLLMServer, proposal: Proposal, good: str | None
    ) -> Pinned:
        """Put a new plan in force. Raises ApiError, and Stale where it is in force already.

        ``good`` names the plan with which the server was last ready: it outlives the others.
        """
        plan, inputs = proposal.plan, proposal.inputs
        assert plan is not None
        assert inputs is not None

        def build(number: int) -> dict[str, Any]:
            objects, release = proposal.objects, proposal.release
            return controller_revision(server, number, inputs, plan, objects, release)

        return await self._pin(key, server, build, good)

    def known(self, key: Key, server: VLLMServer, name: str | None) -> str | None:
        """The name of a pinned plan; None where it is gone or cannot be read."""
        return name if self._readable(key, server, name) is not None else None

    async def give_up(
        self, key: Key, server: VLLMServer, in_force: Pinned, good: str | None, refusal: Refusal
    ) -> Pinned:
        """Put the plan with which the server was last ready in force again.

        Where there is none, the plan in force is pinned again as one whose pods are not started.
        """
        kept = self._readable(key, server, good or in_force.name)
        assert kept is not None

        def build(number: int) -> dict[str, Any]:
            return given_up(server, number, kept, refusal)

        return await self._pin(key, server, build, good)

    def _readable(self, key: Key, server: VLLMServer, name: str | None) -> RevisionRecord | None:
        for record in self._store.revisions(key, server.metadata.uid):
            if record.name == name:
                try:
                    pinned(record)
                except UnreadableRevision:
                    return None
                return record
        return None

    async def _pin(self, key: Key, server: VLLMServer, build: Build, good: str | None) -> Pinned:
        records = self._store.revisions(key, server.metadata.uid)
        number = records[-1].revision + 1 if records else 1
        answer = None
        while answer is None:
            answer = await self._create(key, server, build, number)
            number += 1
        self._metrics.writes.labels(REVISION).inc()
        self._store.observe(REVISION, answer)
        records = self._store.revisions(key, server.metadata.uid)
        for old in expired(records, good):
            await self._client.delete(REVISIONS, key[0], old.name)
            self._metrics.writes.labels(REVISION).inc()
            self._store.forget_child(REVISION, key, old.name)
        return pinned(records[-1])

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
                self._store.observe(REVISION, found)
            raise Stale(f"plan {number} was pinned before") from error
