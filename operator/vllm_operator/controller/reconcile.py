"""One function does everything for a server: gather, intend, carry out, fold the status. Edge.

What is done is decided in ``lifecycle.intent``; here it is read and written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import ApiError, NameConflict, NamespaceTerminating, TemporaryFailure
from vllm_operator.lifecycle.changes import reason_to_roll
from vllm_operator.lifecycle.gauges import gauges
from vllm_operator.lifecycle.gpus import GPUCount, count
from vllm_operator.lifecycle.intent import (
    BeginTrial,
    Decision,
    GiveUp,
    Hold,
    PlanAnew,
    Promote,
    RepairPlan,
    Restore,
    TakeBack,
    World,
    given_up_note,
    intend,
)
from vllm_operator.lifecycle.kept import Revisions
from vllm_operator.lifecycle.kinds import DEPLOYMENTS
from vllm_operator.lifecycle.notes import Note, scaled
from vllm_operator.lifecycle.objections import (
    Objection,
    conflicted,
    refused_by_server,
    unexpected,
)
from vllm_operator.lifecycle.podevents import next_read
from vllm_operator.lifecycle.progress import Observed
from vllm_operator.lifecycle.records import ChildRecord, Key
from vllm_operator.lifecycle.remembered import Remembered, read_server
from vllm_operator.lifecycle.revisions import (
    Pinned,
    Relation,
    given_up,
    pods_of_plan,
    ready_revision,
    relation,
    taken_back,
)
from vllm_operator.lifecycle.rollout import calm, is_rolling, is_settled
from vllm_operator.lifecycle.status import describe, fold, server_state
from vllm_operator.lifecycle.trial import Shape, is_beside

from .apply import Applier
from .boot import BootReader
from .calibrate import Calibrator
from .children import Children, repair_note, with_replicas
from .client import Client
from .events import Events
from .history import Build, History
from .metrics import Metrics
from .nodes import Nodes
from .planning import Planner, Proposal
from .pools import Pools, Routed
from .statuses import Statuses
from .store import Store
from .trials import NoTuner, Trials, Tuner

LOG: Final = logging.getLogger("vllm_operator")


@dataclass(slots=True)
class _Visit:
    """One visit of a server: what was gathered and decided, and what came of it."""

    key: Key
    body: dict[str, Any]
    world: World
    decision: Decision
    revisions: Revisions
    objection: Objection
    """Why no other plan is in force, or what keeps its objects from being applied."""
    proposal: Proposal | None = None
    """What was put in force."""
    shape: Shape | None = None
    """What the Deployment is while a trial is held or ended."""
    notes: list[Note] = field(default_factory=list)
    look_again: float | None = None
    routed: Routed = field(default_factory=Routed)

    @property
    def server(self) -> VLLMServer:
        """The server."""
        return self.world.server

    @property
    def in_force(self) -> Pinned | None:
        """The plan in force now."""
        return self.revisions.in_force

    @property
    def relation(self) -> Relation:
        """How it stands to the specification."""
        return relation(self.in_force, self.server)

    @property
    def last_ready(self) -> str | None:
        """Name of the revision with which the server was last ready."""
        return self.world.remembered.status.latest_ready_revision


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
        tuner: Tuner | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._nodes = nodes
        self._planner = planner
        self._metrics = metrics
        self._children = Children(client, store, applier, metrics, clock, others_wait)
        self._history = History(client, store, metrics)
        self._trials = Trials(client, store, planner, self._history, clock)
        self._tuner = tuner or NoTuner()
        self._pools = Pools(client, applier, metrics)
        self._boot = BootReader(client)
        self._calibrator = calibrator
        self._clock = clock
        self._events = Events(client, clock, instance)
        self._statuses = Statuses(client, store, self._children, metrics, self._events)
        self.recheck: set[Key] = set()
        """Servers whose referenced ConfigMap is to be read again at the next visit."""

    async def reconcile(self, key: Key) -> float | None:
        """Visit a server; seconds after which to visit it again if nothing happens before.

        Raises ApiError, TemporaryFailure (and Stale): the visit is repeated with back-off. Every
        write so far was right on its own, so a visit may end anywhere.
        """
        try:
            return await self._visit(key)
        except NamespaceTerminating as end:
            LOG.info("the namespace is being deleted", extra={"server": key[1], "error": str(end)})
            return None

    async def _visit(self, key: Key) -> float | None:
        record = self._store.server(key)
        if record is None or record.deleting:
            self._forget(key)
            return None
        body = record.body()
        world = await self._gather(key, body)
        visit = await self._carry_out(key, body, world)
        if isinstance(visit.decision.intent, GiveUp):
            return 0.0
        if not await self._applied(visit):
            return 0.0
        await self._route(visit)
        update, defect = await self._compare(visit)
        folded_again = await self._fold(visit, update)
        if defect is not None:
            raise defect
        asked, decided = visit.objection.ask_again, visit.decision.look_again
        due = next_read(self._store.pods(key), self._clock())
        times = (visit.look_again, visit.routed.look_again, folded_again, asked, decided, due)
        return min((time for time in times if time is not None), default=None)

    def _forget(self, key: Key) -> None:
        """Keep nothing of a server that is gone."""
        self._metrics.forget(*key)
        self._planner.forget(key)
        self._boot.forget(key)
        self._calibrator.forget(key)
        self._tuner.forget(key)
        self.recheck.discard(key)

    async def _gather(self, key: Key, body: dict[str, Any]) -> World:
        """All that is seen of a server; logs are read where its pods do not start."""
        server, unreadable = read_server(body)
        remembered = Remembered.from_status(body.get("status"))
        revisions = self._history.read(key, server, remembered.status.latest_ready_revision)
        for lost in revisions.unreadable:
            LOG.error("a pinned plan cannot be read", extra={"revision": lost.name})
        pods, in_force, diagnosis = self._store.pods(key), revisions.in_force, None
        deployment, now = self._workload(key, server, None), self._clock()
        if in_force is not None and not server.spec.paused:
            workload = self._workload(key, server, in_force)
            if workload is not None and workload.trial:
                workload = calm(workload)  # what is refused is the trial's pod
            diagnosis = await self._boot.diagnose(key, in_force, workload, pods, now)
        seen = server, unreadable, revisions, remembered, pods, diagnosis, now
        world = World(*seen, deployment=deployment)
        if server.spec.autotune is None or server.spec.paused or world.in_force is None:
            return world
        return replace(world, wanted=self._tuner.wants(key, world))

    async def _carry_out(self, key: Key, body: dict[str, Any], world: World) -> _Visit:
        """Do what is intended: put another plan in force, or none."""
        server, in_force = world.server, world.in_force
        decision = intend(world)
        objection = Objection(decision.problems)
        visit = _Visit(key, body, world, decision, world.revisions, objection)
        match decision.intent:
            case PlanAnew():
                await self._take(visit, await self._propose(world))
            case RepairPlan(repair):
                assert in_force is not None
                found = await self._planner.repaired(server, in_force, repair)
                if isinstance(found, Objection):
                    why = found.problems[0].message if found.problems else "it changes nothing"
                    return await self._carry_out(key, body, replace(world, irreparable=why))
                self._metrics.plan_repairs.labels(repair.kind).inc()
                await self._take(visit, found)
            case GiveUp(kept, abandoned):
                record = visit.revisions.record(kept)
                await self._pin(visit, lambda number: given_up(server, number, record, abandoned))
                await self._events.post(server, [given_up_note(abandoned)])
            case TakeBack():
                assert in_force is not None
                record = visit.revisions.record(in_force)
                await self._pin(visit, lambda number: taken_back(server, number, record))
            case BeginTrial() | Hold() | Promote() | Restore() as intent:
                done = await self._trials.act(key, world, intent)
                visit.revisions, visit.shape = done.revisions, done.shape
                if done.refused:
                    self._tuner.refused(key, done.refused)
        await self._trials.forget_one_without_room(key, world)
        return visit

    async def _propose(self, world: World) -> Proposal | Objection:
        """A plan for the specification; whatever goes wrong with it, the plan in force stays."""
        try:
            return await self._planner.propose(world.server, world.in_force, world.remembered)
        except (ApiError, TemporaryFailure):
            raise
        except Exception as error:
            LOG.exception("planning failed", extra={"server": world.server.metadata.name})
            return unexpected(error)

    async def _take(self, visit: _Visit, proposal: Proposal | Objection) -> None:
        """Pin a proposed plan, and say why at once: what fails later is done again."""
        if isinstance(proposal, Objection):
            visit.objection = proposal
            return
        before, visit.proposal = visit.in_force, proposal
        await self._pin(visit, partial(proposal.revision, visit.server))
        visit.decision = Decision(visit.decision.intent)  # the trouble was of the plan before
        if proposal.repair:
            note: Note = ("Normal", "PlanRepaired", "Repair", proposal.repair)
            await self._events.post(visit.server, [note])
        elif before is not None:
            assert visit.in_force is not None
            told = (reason_to_roll(before, visit.in_force), describe(proposal.planned.plan))
            note = ("Normal", "Replanned", "Plan", "; ".join(filter(None, told)))
            await self._events.post(visit.server, [note])

    async def _pin(self, visit: _Visit, build: Build) -> None:
        visit.revisions = await self._history.pin(visit.key, visit.server, build, visit.last_ready)

    async def _applied(self, visit: _Visit) -> bool:
        """Write the objects of the plan in force; False where the visit is to be made again."""
        key, server, in_force = visit.key, visit.server, visit.in_force
        if in_force is None:
            return True
        as_served = with_replicas(server, 0) if visit.relation is Relation.STOPPED else server
        if server.spec.paused:
            base, deployment = self._trials.base(visit.world), visit.world.deployment
            if base is None or deployment is None:
                return True
            # Only a trial is ended: what it began beside stays, whatever was asked for since.
            in_force = replace(base, objects=base.objects[:1])
            as_served = with_replicas(server, deployment.spec_replicas)
        shape = visit.shape or self._trials.ended(key, visit.world, visit.revisions)
        diagnosis = visit.world.diagnosis
        holder = diagnosis.failure.numbers.get("holder", "") if diagnosis is not None else ""
        try:
            applied = await self._children.apply(
                key, as_served, in_force, visit.proposal, shape, holder
            )
        except NameConflict as conflict:
            visit.objection = conflicted(conflict)
            return True
        visit.notes.extend(repair_note(kind, key[1]) for kind in applied.repaired)
        visit.look_again = applied.look_again
        if applied.scaled and visit.relation is not Relation.STOPPED:
            step = scaled(server.metadata.generation, *applied.scaled)
            await self._events.post_once(server, [step])
        if not applied.complete:
            await self._events.post(server, visit.notes)
            return False
        if applied.refusal and not visit.objection.problems:
            visit.objection = refused_by_server(applied.refusal)
        await self._history.tidy(key, visit.revisions)
        return True

    async def _route(self, visit: _Visit) -> None:
        """Bring what a gateway finds the server by, which is in no plan, to what is asked for."""
        visit.routed = await self._pools.bring(visit.key, visit.world)
        visit.notes.extend(visit.routed.notes)

    async def _compare(self, visit: _Visit) -> tuple[str | None, Exception | None]:
        """How a plan of today would differ; a defect there is told once the status is written."""
        key, server, in_force = visit.key, visit.server, visit.in_force
        if in_force is None or not visit.relation.is_planned or visit.objection.problems:
            return None, None
        update, defect = None, None
        try:
            update = await self._planner.update(server, in_force, live=key in self.recheck)
        except (ApiError, TemporaryFailure):
            raise
        except Exception as error:
            defect = error
        self.recheck.discard(key)
        return update, defect

    async def _fold(self, visit: _Visit, update: str | None) -> float | None:
        """Write the status; seconds after which it is to be folded again."""
        key, server, remembered = visit.key, visit.server, visit.world.remembered
        folded = fold(server, remembered, self._observed(visit, update), self._clock())
        self._metrics.set_server_state(*key, server_state(folded.status))
        self._metrics.set_server(*key, gauges(server.spec, folded.status))
        told = await self._statuses.write(key, server, visit.body, remembered, folded.status)
        waits = visit.objection.waits
        await self._events.post(server, visit.notes if waits else [*visit.notes, *told])
        return folded.look_again

    def _observed(self, visit: _Visit, update: str | None) -> Observed:
        key, in_force = visit.key, visit.in_force
        seen = Observed(
            problems=visit.objection.problems,
            waits=visit.objection.waits,
            plan=None,
            planned=visit.relation.is_planned,
            update=update,
            deployment=self._workload(key, visit.server, in_force),
            pods=(),
            trouble=visit.decision.trouble,
            routing_conditions=visit.routed.conditions,
        )
        if in_force is None:
            return seen
        tuned = self._tuner.told(key, visit.world)
        seen = replace(
            seen,
            with_trial=is_beside(in_force, seen.deployment),
            tuning=tuned.tuning,
            tuning_conditions=tuned.conditions,
        )
        visit.notes.extend(tuned.notes)
        workload = seen.judged
        mine = pods_of_plan(in_force, self._store.pods(key))
        said = self._calibrator.look(key, in_force, mine)
        under_way = workload is not None and not is_settled(workload)
        before = visit.revisions.before if under_way else None
        rolling = workload is None or is_rolling(workload)
        return replace(
            seen,
            plan=in_force.plan,
            pods=mine,
            abandoned=in_force.abandoned if visit.relation.is_given_up else None,
            ready_revision=None if rolling else ready_revision(in_force, mine),
            calibration=said.cache,
            engine_version=said.version,
            change=reason_to_roll(before, in_force) if before is not None else None,
            gpus=self._gpus(in_force) if under_way else None,
        )

    def _workload(
        self, key: Key, server: VLLMServer, in_force: Pinned | None
    ) -> ChildRecord | None:
        """The server's Deployment or LeaderWorkerSet, if it is ours."""
        kind = DEPLOYMENTS.kind if in_force is None else in_force.workload
        found = self._store.child(kind, key, key[1])
        ours = found is not None and found.controller_uid == server.metadata.uid
        return found if ours else None

    def _gpus(self, in_force: Pinned | None) -> GPUCount | None:
        if in_force is None or in_force.plan is None or not self._nodes.visible:
            return None
        return count(self._nodes.by_node(in_force.plan.placement.gpu), self._store.all_pods())
