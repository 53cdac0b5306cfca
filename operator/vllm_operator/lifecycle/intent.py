"""What to do next about one server: a chain of checks, the first that has something to say acts.

    gather -> World -> intend -> Decision -> carry out -> fold

Pure. Every reason to run another plan is a link of the chain, so that no two act in one visit and
none acts on what another one is about to change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Final

from vllm_operator.api.conditions import truncate
from vllm_operator.api.plan import Problem
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.manifests.labels import REPLAN_ANNOTATION
from vllm_operator.sizing.asked.repairs import Repair
from vllm_operator.tuning.standing import Wants

from .kept import Revisions
from .learned import Learned
from .notes import Note
from .records import ChildRecord, PodRecord
from .recovery import Diagnosis, Past, Trouble, Verdict, decide, patience, trouble
from .remembered import Remembered
from .revisions import (
    Abandoned,
    Pinned,
    Relation,
    pods_of_plan,
    relation,
    replan_request,
)
from .trial import NOTHING, NOTHING_WANTED, Seen, Wanted, obstacle, see
from .trials import Candidate, Trial

TRY_AGAIN: Final = (
    f"edit the specification, or change the annotation {REPLAN_ANNOTATION} to try it again"
)
MESSAGE_LIMIT: Final = 700
"""What is said beside a cause still fits a condition."""


@dataclass(frozen=True)
class World:
    """What a visit gathered of one server."""

    server: VLLMServer
    unreadable: tuple[Problem, ...]
    """Why its specification cannot be read (stored under an older schema)."""
    revisions: Revisions
    remembered: Remembered
    pods: Sequence[PodRecord]
    """All of the server's, of whatever plan."""
    diagnosis: Diagnosis | None
    """What stops pods of the plan in force."""
    now: datetime
    deployment: ChildRecord | None = None
    """The server's Deployment, if it is ours."""
    wanted: Wanted = NOTHING_WANTED
    """What is asked for of a trial."""
    irreparable: str = ""
    """Why the repair that was intended gives no other plan, once that was tried."""

    @property
    def in_force(self) -> Pinned | None:
        """The plan that runs, or is to run."""
        return self.revisions.in_force

    @cached_property
    def relation(self) -> Relation:
        """How that stands to the specification."""
        return relation(self.in_force, self.server)

    @cached_property
    def trial(self) -> Seen:
        """What is seen of a trial; nothing where no Deployment has one."""
        in_force, deployment = self.in_force, self.deployment
        if in_force is None or deployment is None or not deployment.trial:
            return NOTHING
        trials = self.revisions.trials
        return see(self.server, in_force, trials, deployment, self.pods, self.now)

    @cached_property
    def obstacle(self) -> str | None:
        """Why no trial begins now, in words."""
        if self.in_force is None or self.relation is not Relation.CURRENT:
            return "the plan in force is not the specification's"
        return obstacle(self.server, self.in_force, self.deployment, self.pods)


@dataclass(frozen=True, slots=True)
class Keep:
    """The plan in force stays."""


@dataclass(frozen=True, slots=True)
class PlanAnew:
    """The specification as it stands is planned."""


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """The plan in force is made again with one more repair."""

    repair: Repair


@dataclass(frozen=True, slots=True)
class GiveUp:
    """``kept`` is put in force in place of the plan that does not start."""

    kept: Pinned
    abandoned: Abandoned


@dataclass(frozen=True, slots=True)
class TakeBack:
    """The plan in force stays, and no longer stands in for another one."""


@dataclass(frozen=True, slots=True)
class BeginTrial:
    """The plan in force stays, and one pod is started with a candidate beside it."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Hold:
    """The plan in force stays, and so does the trial's pod."""

    trial: Trial
    displaces: bool
    """Whether it takes a stable pod's place from now on."""


@dataclass(frozen=True, slots=True)
class Promote:
    """The trial's plan is put in force."""

    trial: Trial


@dataclass(frozen=True, slots=True)
class Restore:
    """The plan before a promoted trial is put in force again."""

    trial: Trial


Intent = Keep | PlanAnew | RepairPlan | GiveUp | TakeBack | BeginTrial | Hold | Promote | Restore


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done, and what is told where it changes no plan."""

    intent: Intent
    problems: tuple[Problem, ...] = ()
    """Why the specification as it stands has no plan in force."""
    trouble: Trouble | None = None
    """What stops pods of the plan in force."""
    look_again: float | None = None
    """Seconds after which time alone may change the decision."""


def paused(world: World) -> Decision | None:
    """A paused server is left as it is."""
    return Decision(Keep(), world.unreadable) if world.server.spec.paused else None


def unreadable(world: World) -> Decision | None:
    """A specification that cannot be read changes nothing that runs."""
    if not world.unreadable:
        return None
    return Decision(Keep(), world.unreadable, _told(world))


def given_up(world: World) -> Decision | None:
    """A specification that was given up waits for an edit; the plan before it serves, if any."""
    if world.relation is Relation.STOPPED and world.in_force and world.in_force.plan is not None:
        return Decision(Keep(), trouble=_told(world))
    if world.relation is not Relation.STANDS_IN:
        return None
    assert world.in_force is not None
    assert world.in_force.abandoned is not None
    abandoned = world.in_force.abandoned
    problem = Problem(field="spec", reason=abandoned.reason, message=abandoned.message)
    return Decision(Keep(), (problem,), _told(world))


def another_release(world: World) -> Decision | None:
    """A plan that only another release can read is kept, with its objects."""
    in_force = world.in_force
    if in_force is None or in_force.plan is not None or not world.relation.is_planned:
        return None
    message = (
        f"ControllerRevision {in_force.name} holds a plan of release {in_force.release}, which "
        "this one cannot read; its objects are kept. Run that release again, or change the "
        "annotation vllm-operator.io/replan to plan anew"
    )
    problem = Problem(field="status.plan", reason="PlanUnreadable", message=truncate(message))
    return Decision(Keep(), (problem,), _told(world))


def another_plan(world: World) -> Decision | None:
    """A specification that the plan in force is not for is planned."""
    wanting = (Relation.ABSENT, Relation.OUTDATED, Relation.OTHER_POD)
    if world.relation not in wanting:
        return None
    return Decision(PlanAnew(), trouble=_told(world))


def taken_back(world: World) -> Decision | None:
    """A plan that stood in for one given up, and is wanted again, stands for itself."""
    return Decision(TakeBack()) if world.relation is Relation.WANTED_AGAIN else None


def boot_failure(world: World) -> Decision | None:
    """A plan whose pods do not start is repaired, given up, or left more time."""
    in_force, diagnosis = world.in_force, world.diagnosis
    assert in_force is not None
    mine = pods_of_plan(in_force, world.pods)
    found = None
    if diagnosis is not None:
        made = Learned.of(in_force.inputs).repairs
        verdict = decide(world.server.spec, in_force, made, diagnosis, mine)
        if verdict.repair is not None and not world.irreparable:
            return Decision(RepairPlan(verdict.repair))
        if verdict.repair is not None:
            verdict = Verdict(refusal=f"a repair is not possible: {world.irreparable}")
        found = trouble(diagnosis.failure, verdict)
    cause = (found.reason, found.message) if found is not None else _waits(mine)
    if cause is None:
        return None
    past = _past(world)
    stops = found is not None and found.stops
    left = patience(in_force, past, world.pods, diagnosis, stops, world.now)
    if found is not None and left.hopes:
        found = replace(found, stops=False)
    if not left.is_over:
        return Decision(Keep(), trouble=found, look_again=left.look_again)
    abandoned = _abandoned(world.server, in_force, *cause, stopped=past.good is None)
    return Decision(GiveUp(past.good or in_force, abandoned))


def tuning(world: World) -> Decision | None:
    """A trial is begun, goes on, or becomes the plan; what is not asked for here is ended.

    It stands before what pods of the plan in force do, which only a repair, or the end of the
    plan, goes before: a stable pod that is lost does not end a trial, whose pod serves for it.
    """
    intent = _of_trial(world)
    if intent is None:
        return None
    beside = None if isinstance(intent, Restore) else boot_failure(world)
    if beside is None:
        return Decision(intent, look_again=world.trial.look_again)
    if not isinstance(beside.intent, Keep):
        return None
    times = [one for one in (world.trial.look_again, beside.look_again) if one is not None]
    return Decision(intent, trouble=beside.trouble, look_again=min(times, default=None))


def _of_trial(world: World) -> BeginTrial | Hold | Promote | Restore | None:
    wanted, seen, in_force = world.wanted, world.trial, world.in_force
    autotune = world.server.spec.autotune
    assert in_force is not None
    if wanted.wants is Wants.STABLE:
        rejected = world.revisions.trial(wanted.trial) if wanted.trial else None
        back = rejected is not None and rejected.is_in_force(in_force)
        return Restore(rejected) if rejected is not None and back else None
    if autotune is None or autotune.mode != "Auto":
        return None
    held, candidate = seen.held, wanted.candidate
    if held is None:
        begins = wanted.wants is Wants.TRIAL and candidate is not None and not world.obstacle
        return BeginTrial(candidate) if begins and candidate is not None else None
    named = held.name == wanted.trial
    if candidate is not None and not wanted.trial:
        named = held.is_of(candidate, in_force)
    if not named or seen.end is not None:
        return None
    if wanted.wants is Wants.PROMOTED:
        return Promote(held) if seen.serves else Hold(held, displaces=False)
    return Hold(held, seen.displaces)


def nothing(world: World) -> Decision:
    """What nothing is to be done about."""
    return Decision(Keep())


CHAIN: Final[tuple[Callable[[World], Decision | None], ...]] = (
    paused,
    unreadable,
    given_up,
    another_release,
    another_plan,
    taken_back,
    tuning,
    boot_failure,
    nothing,
)
"""In this order; the first that has something to say acts."""


def intend(world: World) -> Decision:
    """What to do about a server as it is seen."""
    return next(decision for link in CHAIN if (decision := link(world)) is not None)


def given_up_note(abandoned: Abandoned) -> Note:
    """The event of a plan that is given up."""
    if abandoned.stopped:
        return ("Normal", "Stopped", "Stop", abandoned.message)
    return ("Normal", "RolledBack", "Rollback", abandoned.message)


def _told(world: World) -> Trouble | None:
    """What stops pods of a plan that is neither repaired nor given up, as it is not wanted."""
    return None if world.diagnosis is None else trouble(world.diagnosis.failure, Verdict())


def _past(world: World) -> Past:
    good, down_since = world.revisions.last_ready, world.remembered.down_since
    if good is not None and good.is_for(world.server):
        return Past(served=True, down_since=down_since)
    return Past(good=good, down_since=down_since)


def _waits(mine: Sequence[PodRecord]) -> tuple[str, str] | None:
    """Reason and message for a plan whose pods the scheduler finds no node for."""
    for pod in mine:
        if pod.unschedulable_since and not pod.scheduled:
            told = pod.unschedulable_message
            return "Unschedulable", f"the scheduler finds no node for a replica: {told}"
    return None


def _abandoned(
    server: VLLMServer, in_force: Pinned, reason: str, message: str, *, stopped: bool
) -> Abandoned:
    done = "its pods are no longer started" if stopped else "the plan before it serves"
    said = f"{truncate(message, MESSAGE_LIMIT)}; {done}: {TRY_AGAIN}"
    replan = replan_request(server)
    return Abandoned(server.spec, replan, reason, said, stopped, in_force.name)
