"""What to do about a server whose pods do not start: look, repair the plan, or give it up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from vllm_operator.api.conditions import truncate
from vllm_operator.api.plan import Problem
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.lifecycle.notes import Note
from vllm_operator.lifecycle.records import ChildRecord, Key, PodRecord
from vllm_operator.lifecycle.recovery import (
    Diagnosis,
    Past,
    Trouble,
    Verdict,
    decide,
    patience,
    trouble,
)
from vllm_operator.lifecycle.revisions import Pinned, Refusal, pods_of_plan, replan_request
from vllm_operator.manifests.labels import REPLAN_ANNOTATION
from vllm_operator.sizing.asked.inputs import PlanningInputs

from .boot import BootReader
from .metrics import Metrics
from .planning import Planner, Proposal

TRY_AGAIN: Final = (
    f"edit the specification, or change the annotation {REPLAN_ANNOTATION} to try it again"
)
MESSAGE_LIMIT: Final = 700
"""What is said beside a cause still fits a condition."""


@dataclass(frozen=True)
class Finding:
    """What became of the starts of a plan's pods."""

    proposal: Proposal = field(default_factory=Proposal)
    """A repaired plan, if there is one."""
    trouble: Trouble | None = None
    """What stops the pods."""
    refusal: Refusal | None = None
    """Why the plan is given up, if it is."""
    look_again: float | None = None
    """Seconds after which it may be."""


class Starts:
    """Watches over the starts of the engines of plans in force. ``clock`` gives the time in UTC."""

    def __init__(
        self, reader: BootReader, planner: Planner, metrics: Metrics, clock: Callable[[], datetime]
    ) -> None:
        self._reader = reader
        self._planner = planner
        self._metrics = metrics
        self._clock = clock

    async def look_into(
        self,
        key: Key,
        server: VLLMServer,
        in_force: Pinned,
        deployment: ChildRecord | None,
        pods: Sequence[PodRecord],
        *,
        past: Past,
        sound: bool,
    ) -> Finding:
        """What stops the pods of the plan in force, if anything, and what is done about it.

        ``sound`` is false where the plan in force is not that of the specification as it stands,
        and then it is neither repaired nor given up. Raises ApiError and TemporaryFailure where
        the API server fails.
        """
        diagnosis = await self._reader.diagnose(key, in_force, deployment, pods)
        found = None
        if diagnosis is not None:
            verdict = Verdict()
            if sound:
                made = PlanningInputs.from_json_object(in_force.inputs).repairs
                mine = pods_of_plan(in_force, pods)
                verdict = decide(server.spec, in_force, made, diagnosis, mine)
            if verdict.repair is not None:
                proposal = await self._planner.repaired(server, in_force, verdict.repair)
                if proposal.plan is not None:
                    self._metrics.plan_repairs.labels(verdict.repair.kind).inc()
                    return Finding(proposal)
                why = next((problem.message for problem in proposal.problems), "it changes nothing")
                verdict = Verdict(refusal=f"a repair is not possible: {why}")
            found = trouble(diagnosis.failure, verdict)
        if not sound:
            return Finding(trouble=found)
        return self._given_up(server, in_force, past, pods, diagnosis, found)

    def _given_up(
        self,
        server: VLLMServer,
        in_force: Pinned,
        past: Past,
        pods: Sequence[PodRecord],
        diagnosis: Diagnosis | None,
        found: Trouble | None,
    ) -> Finding:
        cause = (found.reason, found.message) if found else _waits(in_force, pods)
        if cause is None:
            return Finding()
        stops = found is not None and found.stops
        left = patience(in_force, past, pods, diagnosis, stops, self._clock())
        if found is not None and left.hopes:
            found = replace(found, stops=False)
        if not left.is_over:
            return Finding(trouble=found, look_again=left.look_again)
        reason, message = cause[0], truncate(cause[1], MESSAGE_LIMIT)
        stopped = past.good is None
        done = "its pods are no longer started" if stopped else "the plan before it serves"
        said = f"{message}; {done}: {TRY_AGAIN}"
        refusal = Refusal(server.spec, replan_request(server), reason, said, stopped)
        return Finding(trouble=found, refusal=refusal)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a server that is gone."""
        self._reader.forget(key)


def _waits(in_force: Pinned, pods: Sequence[PodRecord]) -> tuple[str, str] | None:
    """Reason and message for a plan whose pods the scheduler finds no node for."""
    for pod in pods_of_plan(in_force, pods):
        if pod.unschedulable_since and not pod.scheduled:
            told = pod.unschedulable_message
            return "Unschedulable", f"the scheduler finds no node for a replica: {told}"
    return None


def given_up_problem(refusal: Refusal) -> Problem:
    """Why the specification as it stands has no plan in force."""
    return Problem(field="spec", reason=refusal.reason, message=refusal.message)


def given_up_note(refusal: Refusal) -> Note:
    """The event of a plan that is given up."""
    if refusal.stopped:
        return ("Normal", "Stopped", "Stop", refusal.message)
    return ("Normal", "RolledBack", "Rollback", refusal.message)
