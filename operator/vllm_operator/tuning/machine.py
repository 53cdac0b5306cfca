"""The state machine of tuning: from where it is and what is seen to where it is next. Pure.

A state says what should exist, and whoever applies it makes it so; nothing is issued, so that a
kill between any two writes does no harm. All times are seconds of one clock since the epoch, and
every duration is one of ``Durations`` or ``Observed.start_seconds``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .durations import Durations
from .edges import EDGES, HELD, LEAVES, PROMOTED, Edge, Value
from .standing import Desired, Observed, Proposal, Standing, State, Wants

BY_SOURCE: Final[Mapping[State, tuple[Edge, ...]]] = {
    state: tuple(edge for edge in EDGES if edge.source is state) for state in State
}


@dataclass(frozen=True, slots=True)
class Step:
    """What a visit comes to."""

    standing: Standing
    edge: Edge | None
    """The edge that was taken; None where all stays as it is, to the letter."""
    look_again: float | None
    """Seconds after which time alone may change it."""

    @property
    def wants(self) -> Wants:
        """What should exist from now on."""
        return wants(self.standing.state)


def wants(state: State) -> Wants:
    """What should exist in a state."""
    if state in HELD:
        return Wants.TRIAL
    return Wants.PROMOTED if state in PROMOTED else Wants.STABLE


def beginning(desired: Desired, now: float) -> Standing:
    """Where tuning is with a server of which nothing is remembered, or what was is lost.

    A rollout that is held then is one that nobody asks for, and is ended.
    """
    disabled = desired.mode.value == State.DISABLED
    state = State.DISABLED if disabled else State.OBSERVING
    return Standing(state, now, reason=state.value)


def transition(
    standing: Standing,
    desired: Desired,
    observed: Observed,
    now: float,
    durations: Durations | None = None,
) -> Step:
    """The next state: that of the first edge that holds, or the same, untouched.

    A visit takes one edge at most. A clock that goes back only makes a state last longer.
    """
    durations = durations or Durations()
    inputs = inputs_of(standing, desired, observed, now)
    for edge in BY_SOURCE[standing.state]:
        if all(inputs[name] in values for name, values in edge.when.items()):
            after = _after(standing, edge, observed, now, durations)
            return Step(after, edge, _left(after, now))
    return Step(standing, None, _left(standing, now))


def inputs_of(
    standing: Standing, desired: Desired, observed: Observed, now: float
) -> dict[str, Value]:
    """What edges ask for, by the names that they use."""
    return {
        "mode": desired.mode,
        "halt": desired.halt,
        "change": observed.change,
        "metrics": observed.metrics,
        "proposal": observed.proposal,
        "candidate": observed.candidate,
        "warm": observed.warm,
        "judged": observed.judged,
        "stable": observed.stable,
        "leave": observed.leave,
        "load": observed.load,
        "record": observed.record,
        "due": standing.until is not None and now >= standing.until,
        "news": _is_news(standing, observed),
        "replaced": standing.replaced,
        "interrupted": standing.reason == "Interrupted",
        "pinned": standing.reason == "Pinned",
    }


def _is_news(standing: Standing, observed: Observed) -> bool:
    from_leave = LEAVES[observed.leave][0]
    return observed.proposal is Proposal.OTHER or from_leave != standing.reason


def _after(
    standing: Standing, edge: Edge, observed: Observed, now: float, durations: Durations
) -> Standing:
    trial = edge.target in (State.STARTING, State.WARMING, State.JUDGING)
    lost = edge.source is not State.PROPOSED and edge.target is State.STARTING
    return Standing(
        state=edge.target,
        since=standing.since if edge.target is standing.state else now,
        until=_until(standing, edge, observed, now, durations),
        reason=edge.tells,
        replaced=trial and (standing.replaced or lost),
    )


def _until(
    standing: Standing, edge: Edge, observed: Observed, now: float, durations: Durations
) -> float | None:
    match edge.target:
        case State.SETTLED:
            return now + durations.broken
        case State.PROPOSED:
            return now + durations.recommendation
        case State.STARTING:
            return now + observed.start_seconds
        case State.WARMING:
            return now + (durations.quiet_trial if observed.quiet else durations.trial)
        case State.JUDGING:
            return standing.until  # a trial's time counts from when its pod serves
        case State.VERIFYING:
            return now + durations.verification
        case State.COOLING_DOWN:
            return now + cool_down(observed.rollbacks, standing.reason, durations)
    return None


def cool_down(rollbacks: int, reason: str, durations: Durations) -> float:
    """Seconds in which nothing is tried after a trial that ended for ``reason``: they double with
    each rollback that follows another."""
    if reason != "RolledBack":
        return durations.cool_down
    doubled = durations.cool_down_after_rollback * 2.0 ** min(max(rollbacks - 1, 0), 16)
    return float(min(doubled, durations.longest_cool_down))


def _left(standing: Standing, now: float) -> float | None:
    """None also where the time is over: what is waited for then is something else."""
    until = standing.until
    return None if until is None or now >= until else until - now
