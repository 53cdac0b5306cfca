"""Whether a trial may begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .durations import Durations
from .standing import Leave, Mode
from .window import Window

INCONCLUSIVE_LIMIT = 2
"""Trials in a row that told nothing, after which none is begun."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What decides over the beginning of a trial, beside the proposal."""

    mode: Mode
    describable: bool
    """Whether the model describes the server, and it is of the kind that trials are made with."""
    inconclusive: int
    """Trials in a row, up to the last, that told nothing."""
    scalings: Sequence[float]
    """When, in the last day, the replicas changed by more than a held rollout stands."""
    settled_since: float | None
    """Since when all replicas are ready and the same; None where they are not."""
    starts: int
    """Trials that were begun in the last day."""
    starts_allowed: int
    """``spec.autotune.maxTrialsPerDay``."""
    window: Window | None
    permit: bool
    """Whether the operator has a trial to give: those of all servers are bounded."""


def stays_one_pod(before: int, after: int, *, in_place: bool = False) -> bool:
    """Whether a trial is still one pod after a change of the replicas.

    The Deployment controller gives each ReplicaSet its share, rounded (deployment_util.go,
    ``GetReplicaSetProportion``, of kube-controller-manager 1.36). From zero all replicas come back
    from the newest template.
    """
    surge = 0 if in_place else 1
    if after == before:
        return True
    return after > 0 and 0.5 <= (after + surge) / (before + surge) < 1.5


def leave(found: Circumstances, now: float, durations: Durations | None = None) -> Leave:
    """The first thing that forbids a trial, in the order of how long it will; or none does.

    More scalings in a day than one in a trial's length mean that few trials would reach their end.
    """
    durations = durations or Durations()
    recent = sum(1 for scaling in found.scalings if now - scaling < durations.day)
    since = found.settled_since
    for holds, why in (
        (found.mode is not Mode.AUTO or not found.describable, Leave.RECOMMEND_ONLY),
        (found.inconclusive >= INCONCLUSIVE_LIMIT, Leave.INCONCLUSIVE),
        (recent > durations.day / durations.trial, Leave.SCALED_TOO_OFTEN),
        (found.starts >= found.starts_allowed, Leave.BUDGET_SPENT),
        (found.window is not None and not found.window.is_open(now), Leave.OUTSIDE_WINDOW),
        (since is None or now - since < durations.settled, Leave.UNSETTLED),
        (not found.permit, Leave.OTHERS_FIRST),
    ):
        if holds:
            return why
    return Leave.GRANTED
