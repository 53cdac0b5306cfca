"""One function does everything for a server: read, decide, write what differs, fold the status."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from vllm_operator.api.canonical import normalized
from vllm_operator.api.plan import Problem
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import ApiError, NameConflict, Stale, TemporaryFailure
from vllm_operator.lifecycle.changes import reason_to_roll
from vllm_operator.lifecycle.gpus import GPUCount, count
from vllm_operator.lifecycle.kinds import DEPLOYMENTS, EVENTS, SERVERS
from vllm_operator.lifecycle.notes import Note, condition, event, warnings
from vllm_operator.lifecycle.progress import Observed
from vllm_operator.lifecycle.records import ChildRecord, Key, PodRecord
from vllm_operator.lifecycle.recovery import Past
from vllm_operator.lifecycle.revisions import Pinned, pods_of_plan
from vllm_operator.lifecycle.rollout import is_rolling, is_settled
from vllm_operator.lifecycle.status import describe, fold, server_state

from .apply import Applier
from .boot import BootReader
from .calibrate import Answer, Calibrator
from .children import Children, repair_note, without_pods
from .client import Client
from .history import History
from .metrics import Metrics
from .nodes import Nodes
from .planning import (
    Planner,
    Proposal,
    conflicted,
    refused_by_server,
    unexpected,
    unreadable_plan,
)
from .starts import Finding, Starts, given_up_note, given_up_problem
from .store import Store

LOG: Final = logging.getLogger("vllm_operator")


@dataclass(slots=True)
class _Visit:
    """What one visit read, decided and has yet to tell."""

    key: Key
    body: dict[str, Any]
    server: VLLMServer
    in_force: Pinned | None
    proposal: Proposal
    finding: Finding = field(default_factory=Finding)
    update: str | None = None
    notes: list[Note] = field(default_factory=list)
    look_again: float | None = None

    @property
    def good(self) -> str | None:
        """Name of the revision with which the server was last ready."""
        return (self.body.get("status") or {}).get("latestReadyRevision")


class Reconciler:
    """Brings one server at a time to its desired state. ``clock`` gives the time in UTC."""

    def __init__(
        self,
        client: Client,
        store: Store,
        nodes: Nodes,
        planner: Planner,
        applier: Applier,
        metrics: Metrics,
        calibrator: Calibrator,
        clock: Callable[[], datetime],
        others_wait: Callable[[], bool],
        instance: str,
    ) -> None:
        self._client = client
        self._store = store
        self._nodes = nodes
        self._planner = planner
        self._metrics = metrics
        self._children = Children(client, store, applier, metrics, clock, others_wait)
        self._history = History(client, store, metrics)
        self._starts = Starts(BootReader(client), planner, metrics, clock)
        self._calibrator = calibrator
        self._clock = clock
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
            self._forget(key)
            return None
        visit = self._begin(key, record.body())
        if not visit.server.spec.paused:
            await self._decide(visit)
            if await self._gave_up(visit):
                return 0.0
            await self._pin(visit)
            if not await self._applied(visit):
                return 0.0
        defect = await self._compare(visit)
        folded_again = await self._fold(visit)
        if defect is not None:
            raise defect
        asked, found = visit.proposal.ask_again, visit.finding.look_again
        return _soonest(visit.look_again, folded_again, asked, found)

    def _forget(self, key: Key) -> None:
        """Keep nothing of a server that is gone."""
        self._metrics.set_server_state(*key, None)
        self._planner.forget(key)
        self._starts.forget(key)
        self._calibrator.forget(key)
        self.recheck.discard(key)

    def _begin(self, key: Key, body: dict[str, Any]) -> _Visit:
        server, unreadable = _parse(body)
        in_force = self._history.in_force(key, server)
        return _Visit(key, body, server, in_force, Proposal(problems=unreadable))

    async def _decide(self, visit: _Visit) -> None:
        """Propose a plan where one is due, and take one back that is no longer given up."""
        if not visit.proposal.problems:
            visit.proposal = await self._propose(visit.server, visit.in_force, visit.body)
        if visit.in_force is not None and visit.in_force.is_taken_back(visit.server):
            visit.in_force = await self._history.take_back(
                visit.key, visit.server, visit.in_force, visit.good
            )

    async def _gave_up(self, visit: _Visit) -> bool:
        """Look into starts of the plan in force; whether it was given up, which ends the visit."""
        key, server, in_force = visit.key, visit.server, visit.in_force
        if in_force is None or visit.proposal.plan is not None:
            return False
        past = self._past(key, server, in_force, visit.body)
        visit.finding = await self._starts.look_into(
            key,
            server,
            in_force,
            self._workload(key, server, in_force),
            self._store.pods(key),
            past=past,
            sound=not visit.proposal.problems,
        )
        refusal = visit.finding.refusal
        if refusal is not None:
            kept = past.good or in_force
            await self._history.give_up(key, server, kept, visit.good, refusal)
            await self._post(server, [given_up_note(refusal)])
            return True
        if visit.finding.proposal.plan is not None:
            visit.proposal = visit.finding.proposal
        return False

    async def _pin(self, visit: _Visit) -> None:
        """Put the proposed plan in force, and say why at once: what fails later is done again."""
        proposal, before = visit.proposal, visit.in_force
        if proposal.plan is None:
            return
        pinned = await self._history.pin(visit.key, visit.server, proposal, visit.good)
        visit.in_force = pinned
        if proposal.repair:
            note: Note = ("Normal", "PlanRepaired", "Repair", proposal.repair)
            await self._post(visit.server, [note])
        elif before is not None:
            told = (reason_to_roll(before, pinned), describe(proposal.plan))
            note = ("Normal", "Replanned", "Plan", "; ".join(filter(None, told)))
            await self._post(visit.server, [note])

    async def _applied(self, visit: _Visit) -> bool:
        """Write the objects of the plan in force; False where the visit is to be made again."""
        key, server, in_force = visit.key, visit.server, visit.in_force
        if in_force is None:
            return True
        as_served = without_pods(server) if in_force.stopped(server) else server
        try:
            applied = await self._children.apply(key, as_served, in_force, visit.proposal)
        except NameConflict as conflict:
            visit.proposal = conflicted(conflict)
            return True
        visit.notes.extend(repair_note(kind, key[1]) for kind in applied.repaired)
        visit.look_again = applied.look_again
        if not applied.complete:
            await self._post(server, visit.notes)
            return False
        if applied.refusal and not visit.proposal.problems:
            visit.proposal = refused_by_server(applied.refusal)
        await self._history.tidy(key, server, visit.good)
        return True

    async def _compare(self, visit: _Visit) -> Exception | None:
        """How a plan of today would differ; a defect there is told once the status is written."""
        key, server, in_force = visit.key, visit.server, visit.in_force
        if in_force is None or not in_force.serves(server) or visit.proposal.problems:
            return None
        defect = None
        try:
            visit.update = await self._planner.update(server, in_force, live=key in self.recheck)
        except (ApiError, TemporaryFailure):
            raise
        except Exception as error:
            defect = error
        self.recheck.discard(key)
        return defect

    async def _fold(self, visit: _Visit) -> float | None:
        """Write the status; seconds after which it is to be folded again."""
        observed = self._observed(visit)
        again, warnings = await self._write_status(visit.key, visit.server, visit.body, observed)
        waits = visit.proposal.waits
        await self._post(visit.server, visit.notes if waits else [*visit.notes, *warnings])
        return again

    def _observed(self, visit: _Visit) -> Observed:
        key, server, in_force = visit.key, visit.server, visit.in_force
        deployment = self._workload(key, server, in_force)
        under_way = in_force is not None and deployment is not None and not is_settled(deployment)
        mine, said = list[PodRecord](), Answer()
        if in_force is not None:
            mine = pods_of_plan(in_force, self._store.pods(key))
            said = self._calibrator.look(key, in_force, mine)
        return Observed(
            problems=visit.proposal.problems,
            waits=visit.proposal.waits,
            plan=in_force.plan if in_force else None,
            planned=in_force is not None and in_force.serves(server),
            update=visit.update,
            deployment=deployment,
            pods=mine,
            trouble=visit.finding.trouble,
            refusal=in_force.refused(server) if in_force else None,
            ready_revision=_ready_revision(in_force, deployment, mine),
            calibration=said.cache,
            engine_version=said.version,
            change=self._history.change(key, server, in_force) if in_force and under_way else None,
            gpus=self._gpus(in_force) if under_way else None,
        )

    async def _propose(
        self, server: VLLMServer, in_force: Pinned | None, body: dict[str, Any]
    ) -> Proposal:
        """A new plan where one is due; whatever goes wrong with it, the plan in force stays."""
        refusal = in_force.refused(server) if in_force is not None else None
        if in_force is not None and refusal is not None and not in_force.serves(server):
            return Proposal(problems=(given_up_problem(refusal),))
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

    def _past(self, key: Key, server: VLLMServer, in_force: Pinned, body: dict[str, Any]) -> Past:
        status = body.get("status") or {}
        name = status.get("latestReadyRevision")
        good = in_force if name == in_force.name else self._history.named(key, server, name)
        available = condition(status, "Available")
        down = available.get("status") == "False" and available.get("reason") != "ScaledToZero"
        down_since = datetime.fromisoformat(available["lastTransitionTime"]) if down else None
        if good is not None and good.serves(server):
            return Past(served=True, down_since=down_since)
        return Past(good=good, down_since=down_since)

    def _workload(
        self, key: Key, server: VLLMServer, in_force: Pinned | None
    ) -> ChildRecord | None:
        """The server's Deployment or LeaderWorkerSet, if it is ours."""
        kind = DEPLOYMENTS.kind if in_force is None else in_force.workload
        found = self._store.child(kind, key, key[1])
        ours = found is not None and found.controller_uid == server.metadata.uid
        return found if ours else None

    def _gpus(self, in_force: Pinned | None) -> GPUCount | None:
        if in_force is None or in_force.plan is None or in_force.plan.placement is None:
            return None
        if not self._nodes.visible:
            return None
        return count(self._nodes.by_node(in_force.plan.placement.gpu), self._store.all_pods())

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
            await self._children.ensure_alive(key, server)
            raise Stale(f"VLLMServer {key[1]} has changed since it was read") from error
        self._metrics.writes.labels("VLLMServer/status").inc()
        self._store.observe(SERVERS.kind, answer)
        return folded.look_again, warnings(before, folded.status)

    async def _post(self, server: VLLMServer, notes: list[Note]) -> None:
        for kind, reason, action, note in notes:
            body = event(
                server, kind, reason, action, note, now=self._clock(), instance=self._instance
            )
            # One that fails is dropped: an event informs, and nothing waits for it.
            with contextlib.suppress(ApiError, TemporaryFailure):
                await self._client.create(EVENTS, server.metadata.namespace, body)


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


def _ready_revision(
    in_force: Pinned | None, deployment: ChildRecord | None, mine: Sequence[PodRecord]
) -> str | None:
    """Name of the plan in force where every pod is of it and one is ready."""
    if in_force is None or deployment is None or is_rolling(deployment):
        return None
    return in_force.name if any(pod.serves for pod in mine) else None


def _soonest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)
