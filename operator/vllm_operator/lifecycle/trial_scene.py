"""Where a server's pods, its trial and its plan are, in the words that tuning asks for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from vllm_operator.api.ledger import Tuning
from vllm_operator.tuning.edges import HELD, PROMOTED
from vllm_operator.tuning.standing import Candidate, Change, Stable, State

from .intent import World
from .records import PodRecord
from .revisions import Relation
from .rollout import is_settled
from .trial import End

CHANGES: Final = {
    End.DISTURBED: Change.DISTURBED,
    End.SCALED: Change.SCALED,
    End.REPLANNED: Change.REPLANNED,
    End.FORBIDDEN: Change.DISTURBED,
}


def ready_at(pod: PodRecord) -> float:
    """Since when a pod serves, seconds since the epoch."""
    return datetime.fromisoformat(pod.ready_since or pod.created_at).timestamp()


def stable_of(world: World, serving: Sequence[PodRecord]) -> Stable:
    """What the pods of the plan in force, of which some are ``serving``, are about."""
    replicas, deployment = world.server.spec.replicas, world.deployment
    if world.relation is Relation.STANDS_IN:
        return Stable.FAILED
    held = world.trial.held is not None
    in_place = held and world.trial.mark is not None and bool(world.trial.mark.in_place)
    if len(serving) < replicas - (1 if in_place else 0):
        return Stable.SHORT
    if _is_to_change(world):
        return Stable.ROLLING
    if held:
        return Stable.SETTLED
    if deployment is None or world.trial.mark is not None or not is_settled(deployment):
        return Stable.ROLLING
    return Stable.SETTLED


def _is_to_change(world: World) -> bool:
    """Whether the status says what is yet to be done: a trial is to be promoted or ended, or the
    plan before a promoted one to be put in force again."""
    tuning = world.remembered.status.tuning
    if tuning is None or tuning.state not in (*PROMOTED, State.ROLLING_BACK):
        return False
    if world.trial.held is not None:
        return True
    trial = world.revisions.trial(tuning.trial.revision or "") if tuning.trial else None
    if trial is None or world.in_force is None or State(tuning.state) is not State.ROLLING_BACK:
        return False
    return trial.is_in_force(world.in_force)


def settled_since(world: World, serving: Sequence[PodRecord]) -> float | None:
    """Since when all that serve do, seconds since the epoch; None where something is under way."""
    if world.obstacle is not None or not serving:
        return None
    return max(map(ready_at, serving))


def candidate_of(
    world: World, pod: PodRecord | None, mine: Sequence[PodRecord], tuning: Tuning | None
) -> Candidate:
    """How the trial's ``pod`` is; once its setting is applied, the worst of ``mine``."""
    held = world.trial.held
    assert world.in_force is not None
    if tuning is None or tuning.state not in PROMOTED:
        return _on_trial(world, pod, tuning)
    if held is None or held.is_in_force(world.in_force):
        worst = [one for one in mine if one.ending is not None or one.restarts]
        return _ended(worst[0]) if worst else Candidate.READY
    # Judged, and not applied yet: it served, so whatever it waits for now is no start.
    found = _on_trial(world, pod, tuning)
    return found if found in (Candidate.READY, Candidate.OUT_OF_MEMORY) else Candidate.UNREADY


def _on_trial(world: World, pod: PodRecord | None, tuning: Tuning | None) -> Candidate:
    if world.trial.end is End.NO_ROOM:
        return Candidate.NO_ROOM
    if pod is None:
        return Candidate.PENDING if world.trial.held is not None else Candidate.ABSENT
    if not pod.scheduled:
        return Candidate.PENDING
    if pod.restarts or pod.waiting_reason == "CrashLoopBackOff":
        return _ended(pod)
    if pod.serves:
        return Candidate.READY
    was_ready = tuning is not None and tuning.trial is not None and tuning.trial.pod == pod.name
    return Candidate.UNREADY if was_ready else Candidate.RUNNING


def _ended(pod: PodRecord) -> Candidate:
    return Candidate.OUT_OF_MEMORY if "OOM" in pod.last_exit else Candidate.CRASHED


def change_of(world: World, tuning: Tuning | None) -> Change:
    """What became of the server beside tuning."""
    trial = tuning.trial if tuning else None
    known = world.revisions.trial(trial.revision or "") if trial else None
    promoted = (
        known is not None and world.in_force is not None and known.is_in_force(world.in_force)
    )
    watched = promoted and tuning is not None and tuning.state in PROMOTED
    if world.trial.end is not None and world.trial.end in CHANGES:
        # A trial whose plan is pinned and not applied yet has another plan beside it: its own.
        own = watched and world.trial.end is End.REPLANNED
        return Change.NONE if own else CHANGES[world.trial.end]
    if tuning is None or trial is None or world.in_force is None:
        return Change.NONE
    if tuning.state in HELD:
        planned = world.relation is Relation.CURRENT
        same = trial.parent is None or world.in_force.name == trial.parent
        return Change.NONE if planned and same else Change.REPLANNED
    if tuning.state in PROMOTED:
        old = world.in_force.name == trial.parent
        return Change.NONE if watched or old else Change.REPLANNED
    return Change.NONE
