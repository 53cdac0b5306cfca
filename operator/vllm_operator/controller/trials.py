"""Pins trials and puts them in force, and says what the Deployment is to be for them. Edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol

from vllm_operator.api.conditions import ConditionDraft, timestamp
from vllm_operator.api.ledger import Tuning
from vllm_operator.errors import Stale
from vllm_operator.lifecycle.intent import BeginTrial, Hold, Promote, Restore, World
from vllm_operator.lifecycle.kept import Revisions
from vllm_operator.lifecycle.kinds import DEPLOYMENTS
from vllm_operator.lifecycle.notes import Note
from vllm_operator.lifecycle.objections import Objection
from vllm_operator.lifecycle.reading import child_record
from vllm_operator.lifecycle.records import Key
from vllm_operator.lifecycle.revisions import Pinned
from vllm_operator.lifecycle.trial import (
    End,
    Shape,
    Wanted,
    begun,
    ending,
    holding,
    is_marked,
    obstacle,
)
from vllm_operator.lifecycle.trials import Candidate, Trial, promoted, restored, trial_revision
from vllm_operator.manifests.render import surroundings

from .client import Client
from .history import Build, History
from .planning import Planner
from .store import Store


@dataclass(frozen=True, slots=True)
class Told:
    """What the status and events say of tuning."""

    tuning: Tuning | None = None
    conditions: tuple[ConditionDraft, ...] = ()
    notes: tuple[Note, ...] = ()


class Tuner(Protocol):
    """Decides what is tried; asked at each visit of a server with ``spec.autotune``."""

    def wants(self, key: Key, world: World) -> Wanted:
        """What is asked for; ``world.trial`` and ``world.obstacle`` say what is seen of a trial."""

    def refused(self, key: Key, why: str) -> None:
        """Told where what was asked for cannot be planned, so that it asks for something else."""

    def told(self, key: Key, world: World) -> Told:
        """What is said of it."""

    def forget(self, key: Key) -> None:
        """The server is gone."""


class NoTuner:
    """Asks for nothing: what is held is ended."""

    def wants(self, key: Key, world: World) -> Wanted:
        """The plan in force, whatever it is."""
        return Wanted()

    def refused(self, key: Key, why: str) -> None:
        """It never asks."""

    def told(self, key: Key, world: World) -> Told:
        """Nothing."""
        return Told()

    def forget(self, key: Key) -> None:
        """It keeps nothing."""


OfTrial = BeginTrial | Hold | Promote | Restore


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done for a trial."""

    revisions: Revisions
    """With what was pinned."""
    shape: Shape | None = None
    """What the Deployment is while it is held."""
    refused: str = ""
    """Why nothing was pinned."""


class Trials:
    """What a visit does for a trial."""

    def __init__(
        self,
        client: Client,
        store: Store,
        planner: Planner,
        history: History,
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._store = store
        self._planner = planner
        self._history = history
        self._clock = clock

    async def act(self, key: Key, world: World, intent: OfTrial) -> Outcome:
        """Begin, hold, promote or take back a trial.

        Raises ApiError, and Stale where what it rests on has changed since it was read.
        """
        match intent:
            case Hold(trial, displaces):
                return Outcome(world.revisions, self._held(world, trial, displaces=displaces))
            case Promote(trial):
                return await self._put_in_force(key, world, _promotion(world, trial))
            case Restore(trial):
                return await self._put_in_force(key, world, self._restoration(world, trial))
            case BeginTrial(candidate):
                return await self._begin(key, world, candidate)

    async def forget_one_without_room(self, key: Key, world: World) -> None:
        """Delete a trial whose pod never ran: no start counts. Without it, nothing is held."""
        if world.trial.end is End.NO_ROOM and world.trial.held is not None:
            await self._history.delete(key, world.trial.held.name)

    def ended(self, key: Key, world: World, revisions: Revisions) -> Shape | None:
        """How a trial that is not asked for ends; None where there is none, or it is over."""
        mark, in_force = world.trial.mark, revisions.in_force
        if mark is None or in_force is None:
            return None
        parent = revisions.find(mark.parent)
        return ending(world.trial, in_force, parent, world.deployment, self._store.pods(key))

    def base(self, world: World) -> Pinned | None:
        """The plan that a trial which is not over yet began beside; None where there is none."""
        deployment, in_force = world.deployment, world.in_force
        if deployment is None or in_force is None or not is_marked(deployment):
            return None
        mark = world.trial.mark
        parent = world.revisions.find(mark.parent) if mark is not None else None
        found = parent or in_force
        return found if found.workload == DEPLOYMENTS.kind else None

    async def _begin(self, key: Key, world: World, candidate: Candidate) -> Outcome:
        """Pin a trial, unless an earlier visit did, and hold it over what is live.

        It is not held where the stable pods are no longer settled.
        """
        server, in_force, revisions = world.server, world.in_force, world.revisions
        assert in_force is not None
        before = [one for one in revisions.trials if one.is_of(candidate, in_force)]
        trial = before[-1] if before else None
        if trial is None:
            found = await self._planner.tried(server, in_force, candidate)
            if isinstance(found, Objection):
                return Outcome(revisions, refused=_why(found))
            inputs, planned = found.inputs.to_json_object(), found.planned
            revisions = await self._pin(
                key,
                world,
                lambda number: trial_revision(server, number, inputs, planned, candidate, in_force),
            )
            trial = revisions.trials[-1]
        body = await self._client.get(DEPLOYMENTS, *key)
        if body is None:
            self._store.forget_child(DEPLOYMENTS.kind, key, key[1])
            raise Stale(f"Deployment {key[1]} is gone")
        self._store.observe(DEPLOYMENTS.kind, body)
        live = child_record(DEPLOYMENTS.kind, body)
        if obstacle(server, in_force, live, self._store.pods(key)) is not None:
            return Outcome(revisions)
        around = surroundings(body["spec"]["template"])
        in_place = not in_force.may_surge
        mark = begun(trial, live, around, self._clock(), in_place=in_place)
        return Outcome(revisions, holding(trial, mark, live.spec_replicas))

    def _held(self, world: World, trial: Trial, *, displaces: bool) -> Shape:
        """The held rollout of a trial that goes on, at the replicas that are asked for."""
        mark = world.trial.mark
        assert mark is not None
        if displaces:
            mark = mark.displacing(timestamp(self._clock()))
        return holding(trial, mark, world.server.spec.replicas)

    def _restoration(self, world: World, trial: Trial) -> Build | Objection:
        """What puts the plan before a trial's in force again: itself, or one planned anew."""
        server, in_force = world.server, world.in_force
        assert in_force is not None
        parent = world.revisions.find(trial.parent)
        if parent is not None and parent.is_for(server):
            record = world.revisions.record(parent)
            return lambda number: restored(server, number, record, trial)
        found = self._planner.untuned(server, in_force, trial)
        return found if isinstance(found, Objection) else partial(found.revision, server)

    async def _put_in_force(self, key: Key, world: World, build: Build | Objection) -> Outcome:
        if isinstance(build, Objection):
            return Outcome(world.revisions, refused=_why(build))
        return Outcome(await self._pin(key, world, build))

    async def _pin(self, key: Key, world: World, build: Build) -> Revisions:
        last_ready = world.remembered.status.latest_ready_revision
        return await self._history.pin(key, world.server, build, last_ready)


def _promotion(world: World, trial: Trial) -> Build:
    """What puts a trial's plan in force."""
    server, record = world.server, world.revisions.record(trial.pinned)
    return lambda number: promoted(server, number, record, trial)


def _why(objection: Objection) -> str:
    return "; ".join(problem.message for problem in objection.problems)
