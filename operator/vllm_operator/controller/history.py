"""The pinned plans of servers: which is in force, how one is made, and the way back. Edge."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import ApiError, Stale, UnreadableRevision
from vllm_operator.lifecycle.changes import reason_to_roll
from vllm_operator.lifecycle.kinds import REVISIONS
from vllm_operator.lifecycle.records import Key, RevisionRecord
from vllm_operator.lifecycle.revisions import (
    Pinned,
    Refusal,
    controller_revision,
    expired,
    given_up,
    pinned,
    revision_name,
    taken_back,
)

from .apply import controlled_by
from .client import Client
from .metrics import Metrics
from .planning import Proposal
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

    def named(self, key: Key, server: VLLMServer, name: str | None) -> Pinned | None:
        """The pinned plan of that name; None where it is gone or cannot be read."""
        try:
            return pinned(self._record(key, server, name))
        except (KeyError, UnreadableRevision):
            return None

    async def give_up(
        self, key: Key, server: VLLMServer, kept: Pinned, good: str | None, refusal: Refusal
    ) -> Pinned:
        """Put ``kept`` in force in place of what is refused.

        That is the plan with which the server was last ready, or, where there is none, the refused
        one, whose pods are then not started.
        """
        record = self._record(key, server, kept.name)

        def build(number: int) -> dict[str, Any]:
            return given_up(server, number, record, refusal)

        return await self._pin(key, server, build, good)

    async def take_back(
        self, key: Key, server: VLLMServer, in_force: Pinned, good: str | None
    ) -> Pinned:
        """Pin the plan in force again without the refusal that it carries."""
        record = self._record(key, server, in_force.name)

        def build(number: int) -> dict[str, Any]:
            return taken_back(server, number, record)

        return await self._pin(key, server, build, good)

    async def tidy(self, key: Key, server: VLLMServer, good: str | None) -> None:
        """Delete what is beyond the bounded history, also where an earlier visit ended before."""
        for old in expired(self._store.revisions(key, server.metadata.uid), good):
            await self._client.delete(REVISIONS, key[0], old.name)
            self._metrics.writes.labels(REVISIONS.kind).inc()
            self._store.forget_child(REVISIONS.kind, key, old.name)

    def _record(self, key: Key, server: VLLMServer, name: str | None) -> RevisionRecord:
        """Raises KeyError where there is none of that name."""
        records = {one.name: one for one in self._store.revisions(key, server.metadata.uid)}
        return records[name or ""]

    async def _pin(self, key: Key, server: VLLMServer, build: Build, good: str | None) -> Pinned:
        records = self._store.revisions(key, server.metadata.uid)
        number = records[-1].revision + 1 if records else 1
        answer = None
        while answer is None:
            answer = await self._create(key, server, build, number)
            number += 1
        self._metrics.writes.labels(REVISIONS.kind).inc()
        self._store.observe(REVISIONS.kind, answer)
        await self.tidy(key, server, good)
        return pinned(self._store.revisions(key, server.metadata.uid)[-1])

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
