"""One function does everything for a server: read, decide, write what differs, fold the status."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal

from pydantic import ValidationError

from vllm_operator.api.canonical import normalized
from vllm_operator.api.plan import Problem
from vllm_operator.api.v1alpha1 import VLLMServer, VLLMServerSpec
from vllm_operator.errors import NameConflict, TemporaryFailure
from vllm_operator.manifests.render import with_live_fields

from . import events
from .apply import Applier, controlled_by, differs, is_refusal, with_applied_hash
from .client import BY_KIND, REVISIONS, SERVERS, ApiError, Client
from .metrics import Metrics
from .planning import (
    Planner,
    Proposal,
    conflicted,
    refused_by_server,
    unexpected,
    unreadable_plan,
)
from .revisions import (
    Pinned,
    UnreadableRevision,
    controller_revision,
    expired,
    pinned,
    revision_name,
)
from .rollout import choose_strategy
from .status import Observed, describe, fold, server_state
from .store import DEPLOYMENT, REVISION, SERVER, Key, Store

LOG: Final = logging.getLogger("vllm_operator")

Note = tuple[Literal["Normal", "Warning"], str, str, str]
"""An event to post: type, reason, action, note."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying came to."""

    repaired: list[str]
    """Kinds that somebody else had changed."""
    look_again: float | None
    refusal: str | None
    """Why the API server refused an object, if it did."""
    complete: bool = True
    """Whether every object stands."""


class Stale(TemporaryFailure):
    """What was read is out of date; the next visit reads better."""


class Reconciler:
    """Brings one server at a time to its desired state. ``clock`` gives the time in UTC."""

    def __init__(
        self,
        client: Client,
        store: Store,
        planner: Planner,
        applier: Applier,
        metrics: Metrics,
        clock: Callable[[], datetime],
        others_wait: Callable[[], bool],
        instance: str,
    ) -> None:
        self._client = client
        self._store = store
        self._planner = planner
        self._applier = applier
        self._metrics = metrics
        self._clock = clock
        self._others_wait = others_wait
        self._instance = instance
        self.recheck: set[Key] = set()
        """Servers whose referenced ConfigMap is to be read again at the next visit."""

    async def reconcile(self, key: Key) -> float | None:
        """Visit a server; seconds after which to visit it again if nothing happens before.

        Raises ApiError, TemporaryFailure (and Stale): the visit is repeated with back-off. Every
        write so far was right on its own, so a visit may end anywhere.
        """
        record = self._store.server(key)
        if record is None or record.deleting:
            self._metrics.set_server_state(*key, None)
            self._planner.forget(key)
            self.recheck.discard(key)
            return None
        body = record.body()
        server, unreadable = _parse(body)
        in_force = self._in_force(key, server)
        notes: list[Note] = []
        proposal = Proposal(problems=unreadable)
        if not unreadable and not server.spec.paused:
            proposal = await self._propose(server, in_force, body)
        if proposal.plan is not None:
            before = in_force
            in_force = await self._pin(key, server, proposal, in_force)
            if before is not None:
                notes.append(("Normal", "Replanned", "Plan", describe(proposal.plan)))
        look_again = None
        if in_force is not None and not server.spec.paused:
            try:
                applied = await self._apply(key, server, in_force, proposal)
            except NameConflict as conflict:
                proposal = conflicted(conflict)
            else:
                notes.extend(_repair_note(kind, key[1]) for kind in applied.repaired)
                look_again = applied.look_again
                if not applied.complete:
                    await self._post(server, notes)
                    return 0.0
                if applied.refusal and not proposal.problems:
                    proposal = refused_by_server(applied.refusal)
        serves = in_force is not None and in_force.serves(server)
        update, defect = None, None
        if in_force is not None and serves and not proposal.problems:
            try:
                update = await self._planner.update(server, in_force, live=key in self.recheck)
            except (ApiError, TemporaryFailure):
                raise
            except Exception as error:
                defect = error
            self.recheck.discard(key)
        deployment = self._store.child(DEPLOYMENT, key, key[1])
        ours = deployment is not None and deployment.controller_uid == server.metadata.uid
        observed = Observed(
            problems=proposal.problems,
            waits=proposal.waits,
            plan=in_force.plan if in_force else None,
            planned=serves,
            update=update,
            deployment=deployment if ours else None,
            pods=self._store.pods(key),
        )
        folded_again, warning = await self._write_status(key, server, body, observed)
        await self._post(server, notes if proposal.waits else [*notes, *warning])
        if defect is not None:
            raise defect
        return _soonest(look_again, folded_again, proposal.ask_again)

    async def _propose(
        self, server: VLLMServer, in_force: Pinned | None, body: dict[str, Any]
    ) -> Proposal:
        """A new plan where one is due; whatever goes wrong with it, the plan in force stays."""
        if in_force is not None and in_force.serves(server):
            if in_force.plan is not None:
                return Proposal()
            return unreadable_plan(in_force)
        last_plan = (body.get("status") or {}).get("plan") or {}
        try:
            return await self._planner.propose(server, in_force, last_plan)
        except (ApiError, TemporaryFailure):
            raise
        except Exception as error:
            LOG.exception("planning failed", extra={"server": server.metadata.name})
            return unexpected(error)

    def _in_force(self, key: Key, server: VLLMServer) -> Pinned | None:
        for record in reversed(self._store.revisions(key, server.metadata.uid)):
            try:
                return pinned(record)
            except UnreadableRevision as error:
                LOG.error("a pinned plan cannot be read", extra={"error": str(error)})
        return None

    async def _pin(
        self, key: Key, server: VLLMServer, proposal: Proposal, in_force: Pinned | None
    ) -> Pinned:
        records = self._store.revisions(key, server.metadata.uid)
        number = records[-1].revision + 1 if records else 1
        answer = None
        while answer is None:
            answer = await self._create_revision(key, server, proposal, number)
            number += 1
        self._metrics.writes.labels(REVISION).inc()
        self._store.observe(REVISION, answer)
        records = self._store.revisions(key, server.metadata.uid)
        for old in expired(records):
            await self._client.delete(REVISIONS, key[0], old.name)
            self._metrics.writes.labels(REVISION).inc()
            self._store.forget_child(REVISION, key, old.name)
        return pinned(records[-1])

    async def _create_revision(
        self, key: Key, server: VLLMServer, proposal: Proposal, number: int
    ) -> dict[str, Any] | None:
        """The new ControllerRevision; None where its name is taken by one that is not ours.

        Raises Stale where it is ours already.
        """
        assert proposal.plan is not None
        assert proposal.inputs is not None
        body = controller_revision(
            server, number, proposal.inputs, proposal.plan, proposal.objects, proposal.release
        )
        try:
            return await self._client.create(REVISIONS, key[0], body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            found = await self._client.get(REVISIONS, key[0], revision_name(server, number))
            if found is not None and not controlled_by(found, server.metadata.uid):
                return None  # it stays untouched; the next number is as good
            if found is not None:
                self._store.observe(REVISION, found)
            raise Stale(f"plan {number} was pinned before") from error

    async def _apply(
        self, key: Key, server: VLLMServer, in_force: Pinned, proposal: Proposal
    ) -> Applied:
        """Apply what differs of the plan in force; ``proposal`` is what this visit pinned, if so.

        While other servers wait, a visit that creates an object ends there, and the next one goes
        on behind them: of a thousand new servers each gets its Deployment before one its Service.
        """
        repaired: list[str] = []
        look_again, refusal = None, None
        for number, rendered in enumerate(in_force.objects):
            kind = rendered["kind"]
            live = None
            if kind not in proposal.absent:
                live = await self._applier.ensure_ours(kind, key, key[1], server.metadata.uid)
            if live is not None and live.deleting:
                continue
            rolling_update: Mapping[str, int] = {}
            if kind == DEPLOYMENT:
                strategy = choose_strategy(server.spec, live, self._store.pods(key), self._clock())
                rolling_update, look_again = strategy.rolling_update, strategy.look_again
            mark_key = (in_force.uid, kind, server.spec.replicas, *rolling_update.items())
            build = partial(_desired, rendered, server.spec, rolling_update)
            if not differs(self._applier.mark(mark_key, build), live):
                continue
            if live is None and kind == DEPLOYMENT and proposal.plan is None:
                # A missing Deployment may mean that the server itself is gone, unseen.
                await self._ensure_alive(key, server)
            try:
                applied = await self._applier.apply(build(), live, key, mark_key)
            except ApiError as error:
                if is_refusal(error):
                    refusal = f"the API server refuses {kind} {key[1]}: {error.message}"
                    continue
                if error.code != 409:
                    raise
                await self._read_again(kind, key)
                raise Stale(f"{kind} {key[1]} has changed since it was read") from error
            self._metrics.writes.labels(kind).inc()
            more = number + 1 < len(in_force.objects)
            if live is None and more and self._others_wait():
                return Applied(repaired, look_again, refusal, complete=False)
            if live is not None and live.applied_hash == applied.applied_hash:
                repaired.append(kind)
        return Applied(repaired, look_again, refusal)

    async def _ensure_alive(self, key: Key, server: VLLMServer) -> None:
        """Read the server live. Raises Stale where it is gone, or another one by now."""
        body = await self._client.get(SERVERS, key[0], key[1])
        if body is None:
            self._store.forget_child(SERVER, key, key[1])
        else:
            self._store.observe(SERVER, body)
        if body is None or body["metadata"]["uid"] != server.metadata.uid:
            raise Stale(f"VLLMServer {key[1]} is gone")

    async def _read_again(self, kind: str, key: Key) -> None:
        body = await self._client.get(BY_KIND[kind], key[0], key[1])
        if body is None:
            self._store.forget_child(kind, key, key[1])
        else:
            self._store.observe(kind, body)

    async def _write_status(
        self, key: Key, server: VLLMServer, body: dict[str, Any], observed: Observed
    ) -> tuple[float | None, list[Note]]:
        before = body.get("status") or {}
        folded = fold(server, before, observed, self._clock())
        self._metrics.set_server_state(*key, server_state(folded.status))
        if folded.status == before or normalized(folded.status) == normalized(before):
            return folded.look_again, []
        patch = {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "metadata": {
                "name": key[1],
                "namespace": key[0],
                "uid": server.metadata.uid,
                "resourceVersion": server.metadata.resource_version,
            },
            "status": folded.status,
        }
        try:
            answer = await self._client.apply(SERVERS, key[0], key[1], patch, "status")
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            await self._ensure_alive(key, server)
            raise Stale(f"VLLMServer {key[1]} has changed since it was read") from error
        self._metrics.writes.labels("VLLMServer/status").inc()
        self._store.observe(SERVER, answer)
        return folded.look_again, _warnings(before, folded.status)

    async def _post(self, server: VLLMServer, notes: list[Note]) -> None:
        for kind, reason, action, note in notes:
            body = events.event(
                server, kind, reason, action, note, now=self._clock(), instance=self._instance
            )
            await events.post(self._client, body)


def _desired(
    rendered: Mapping[str, Any], spec: VLLMServerSpec, rolling_update: Mapping[str, int]
) -> dict[str, Any]:
    return with_applied_hash(with_live_fields(rendered, spec, rolling_update))


def _repair_note(kind: str, name: str) -> Note:
    note = f"{kind} {name} was changed by somebody else and is restored"
    return ("Normal", "Repaired", "Repair", note)


def _warnings(before: dict[str, Any], after: dict[str, Any]) -> list[Note]:
    """A warning where a condition that stops the server is new or says something new."""
    for kind, failing in (("Planned", "False"), ("Stalled", "True")):
        conditions: list[dict[str, Any]] = before.get("conditions") or []
        old = next((c for c in conditions if c["type"] == kind), {})
        new = next(c for c in after["conditions"] if c["type"] == kind)
        said = (old.get("status"), old.get("reason"))
        edited = old.get("observedGeneration") != new["observedGeneration"]
        if new["status"] == failing and (edited or said != (failing, new["reason"])):
            return [("Warning", new["reason"], "Plan", new["message"])]
    return []


def _parse(body: dict[str, Any]) -> tuple[VLLMServer, tuple[Problem, ...]]:
    """The server, and why its specification cannot be read (stored under an older schema)."""
    try:
        return VLLMServer.model_validate(body), ()
    except ValidationError as error:
        problems = tuple(
            Problem(
                field=".".join(str(part) for part in item["loc"])[:200],
                reason="IllegalPin",
                message=item["msg"][:1024],
            )
            for item in error.errors()[:16]
        )
        spec = {
            "model": {"id": "unreadable"},
            "replicas": body["spec"].get("replicas", 1),
            "paused": bool(body["spec"].get("paused")),
        }
        return VLLMServer.model_validate({**body, "spec": spec}), problems


def _soonest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)
