"""The states of tuning, walked whole.

Inputs that no edge of a state tells apart lead to the same: every combination of such classes is
walked, each with members that are drawn anew. A property draws from all inputs alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from enum import Enum
from functools import cache
from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.api.conditions import REASONS
from vllm_operator.api.ledger import TuningState
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.edges import EDGES, LEAVES
from vllm_operator.tuning.machine import Step, beginning, cool_down, transition, wants
from vllm_operator.tuning.standing import (
    Candidate,
    Change,
    Desired,
    Halt,
    Judged,
    Leave,
    Load,
    Metrics,
    Mode,
    Observed,
    Proposal,
    Record,
    Stable,
    Standing,
    State,
    Wants,
)

NOW = 1_000_000.0
START_SECONDS = 600.0

WAYS = {
    "Disabled": "Observing",
    "Observing": "Disabled Settled Proposed Suspended",
    "Settled": "Disabled Observing",
    "Proposed": "Disabled Observing Proposed Starting Suspended",
    "Starting": "Disabled Observing Warming RollingBack",
    "Warming": "Disabled Observing Starting Judging RollingBack",
    "Judging": "Disabled Observing Starting Promoting RollingBack",
    "Promoting": "Disabled Observing Verifying RollingBack",
    "Verifying": "Disabled Observing RollingBack",
    "RollingBack": "Disabled Observing CoolingDown Suspended",
    "CoolingDown": "Disabled Observing",
    "Suspended": "Disabled Observing",
}
"""Where each state may lead."""

VALUES: dict[str, list[Any]] = {
    "mode": [*Mode],
    "halt": [*Halt],
    "change": [*Change],
    "metrics": [*Metrics],
    "proposal": [*Proposal],
    "candidate": [*Candidate],
    "warm": [False, True],
    "judged": [*Judged],
    "stable": [*Stable],
    "leave": [*Leave],
    "load": [*Load],
    "record": [*Record],
}
HELD = {State.STARTING, State.WARMING, State.JUDGING}

Case = tuple[Standing, Desired, Observed]


def classes(state: State, name: str) -> list[list[Any]]:
    """The values that the edges of a state do not tell apart, together."""
    sets = [edge.when[name] for edge in EDGES if edge.source is state and name in edge.when]
    found: dict[tuple[bool, ...], list[Any]] = {}
    for value in VALUES[name]:
        found.setdefault(tuple(value in one for one in sets), []).append(value)
    return list(found.values())


def standings(state: State) -> list[Standing]:
    reasons = sorted({edge.tells for edge in EDGES if edge.target is state})
    untils = [NOW, NOW + 1]
    replaced = [False, True] if state in HELD else [False]
    return [
        Standing(state, NOW - 100, until, reason, again)
        for reason, until, again in product(reasons, untils, replaced)
    ]


def case(standing: Standing, inputs: dict[str, Any]) -> Case:
    desired = Desired(inputs.pop("mode"), inputs.pop("halt"))
    return standing, desired, Observed(**inputs, start_seconds=START_SECONDS, rollbacks=2)


@cache
def cases() -> tuple[tuple[Case, Step], ...]:
    found, draw = [], Random(20260310)
    for state in State:
        domains = [classes(state, name) for name in VALUES]
        for standing in standings(state):
            for members in product(*domains):
                values = [one[0] if len(one) == 1 else draw.choice(one) for one in members]
                one = case(standing, dict(zip(VALUES, values, strict=True)))
                found.append((one, transition(*one, NOW)))
    return tuple(found)


def test_the_walk_is_large() -> None:
    assert len(cases()) > 50_000


def test_every_state_of_the_resource_is_one_of_the_machine_and_no_other() -> None:
    assert set(TuningState.__args__) == {state.value for state in State}


def test_only_declared_ways_are_taken_and_each_of_them_is() -> None:
    taken = {(one[0].state.value, step.standing.state.value) for one, step in cases() if step.edge}
    assert taken == {(source, to) for source, targets in WAYS.items() for to in targets.split()}


def test_every_edge_is_taken_by_something() -> None:
    taken = {id(step.edge) for _, step in cases()}
    assert [f"{one.source}: {one.guard}" for one in EDGES if id(one) not in taken] == []


def test_what_takes_no_edge_changes_nothing() -> None:
    untouched = [(one[0], step.standing) for one, step in cases() if step.edge is None]
    assert len(untouched) > 1000
    assert all(before is after for before, after in untouched)


def test_the_same_leads_to_the_same() -> None:
    assert all(transition(*one, NOW) == step for one, step in cases()[::7])


def may_begin(one: Case) -> bool:
    standing, desired, observed = one
    return (
        standing.state is State.PROPOSED
        and (desired.mode, desired.halt) == (Mode.AUTO, Halt.NONE)
        and observed.leave is Leave.GRANTED
        and observed.record is Record.CLEAN
        and observed.metrics is Metrics.OK
        and observed.proposal is Proposal.SAME
        and observed.stable is Stable.SETTLED
        and observed.change is Change.NONE
    )


def begins(one: Case, step: Step) -> bool:
    return step.wants is Wants.TRIAL and wants(one[0].state) is not Wants.TRIAL


def test_a_trial_begins_exactly_where_everything_allows_it() -> None:
    assert any(begins(one, step) for one, step in cases())
    assert all(begins(one, step) == may_begin(one) for one, step in cases())


def test_a_mode_that_changes_a_pause_no_replicas_or_a_deletion_end_every_trial() -> None:
    halted = [
        step.wants
        for one, step in cases()
        if one[0].state in HELD and (one[1].mode is not Mode.AUTO or one[1].halt is not Halt.NONE)
    ]
    assert len(halted) > 1000
    assert set(halted) == {Wants.STABLE}


def test_a_change_that_a_trial_does_not_stand_ends_it_without_a_verdict() -> None:
    ended = [
        (step.wants, step.edge and step.edge.verdict)
        for one, step in cases()
        if one[0].state in HELD and one[2].change is not Change.NONE
    ]
    assert len(ended) > 1000
    assert set(ended) == {(Wants.STABLE, "Interrupted")}


def test_only_a_good_verdict_on_fresh_evidence_promotes() -> None:
    promoting = [
        (one[0].state, one[2].judged, one[2].metrics, one[2].stable, one[2].candidate)
        for one, step in cases()
        if step.wants is Wants.PROMOTED and wants(one[0].state) is not Wants.PROMOTED
    ]
    assert set(promoting) == {
        (State.JUDGING, Judged.GOOD, Metrics.OK, Stable.SETTLED, Candidate.READY)
    }


def test_nothing_but_the_trial_s_own_pod_and_loss_of_evidence_ends_it_while_metrics_are_held() -> (
    None
):
    ended = {
        step.edge.guard
        for one, step in cases()
        if one[0].state is State.JUDGING
        and one[2].metrics is Metrics.HOLD
        and one[2].candidate is Candidate.READY
        and step.edge
    }
    assert ended == {
        "disabled", "halted", "recommends only", "another plan", "scaled", "disturbed", "crowded",
        "time is up",
    }  # fmt: skip


def test_stable_pods_that_are_not_all_there_pause_the_verdict() -> None:
    judged = [
        step.edge.guard if step.edge else ""
        for one, step in cases()
        if one[0].state is State.JUDGING and one[2].stable is not Stable.SETTLED
    ]
    assert len(judged) > 1000
    assert not set(judged) & {"good", "bad", "inconclusive"}


def test_a_trial_ends_with_one_verdict_and_nothing_else_has_one() -> None:
    for one, step in cases():
        if step.edge is None:
            continue
        ends = wants(one[0].state) is not Wants.STABLE and step.wants is Wants.STABLE
        assert (step.edge.verdict is not None) == ends


def settled_after(one: Case, now: float, limit: int = 20) -> list[Standing]:
    """All states that the same inputs lead through at one moment."""
    standing, desired, observed = one
    seen = [standing]
    for _ in range(limit):
        step = transition(standing, desired, observed, now)
        if step.edge is None:
            return seen
        standing = step.standing
        seen.append(standing)
    return seen


def test_nothing_goes_in_circles_while_no_time_passes() -> None:
    for one, step in cases():
        if step.edge is not None:
            seen = settled_after(one, NOW)
            assert len(seen) <= 9, [standing.state for standing in seen]
            assert len({standing.state for standing in seen[1:]}) == len(seen) - 1


def observations() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()})


@given(
    standing=st.sampled_from([one for state in State for one in standings(state)]),
    inputs=observations(),
)
def test_whatever_is_seen_the_first_edge_that_holds_is_taken(
    standing: Standing, inputs: dict[str, Any]
) -> None:
    one = case(standing, dict(inputs))
    step = transition(*one, NOW)
    assert begins(one, step) == may_begin(one)
    if step.edge:
        assert step.standing.state.value in WAYS[standing.state.value].split()
        assert all(
            inputs[name] in values for name, values in step.edge.when.items() if name in inputs
        )
    if one[1].mode is Mode.DISABLED:
        assert step.standing.state is State.DISABLED


def test_the_walk_knows_every_input() -> None:
    told = {one.name for one in fields(Observed)} - {"quiet", "start_seconds", "rollbacks"}
    assert {"mode", "halt"} | told == set(VALUES)
    enums = {type(values[0]) for values in VALUES.values() if isinstance(values[0], Enum)}
    assert all(set(VALUES[n]) == set(type(VALUES[n][0])) for n in VALUES if n != "warm")
    assert len(enums) == len(VALUES) - 1


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: f"{edge.source}: {edge.guard}")
def test_every_edge_has_a_reason_that_is_known_and_a_sentence(edge: Any) -> None:
    assert edge.tells in {*REASONS["Tuned"], *(["Disabled"] if edge.target == "Disabled" else [])}
    assert len(edge.sentence) > 15
    assert edge.guard


def test_of_one_state_no_two_edges_have_the_same_name() -> None:
    names = [(edge.source, edge.guard) for edge in EDGES]
    assert len(set(names)) == len(names)


# Lives

AUTO = Desired(Mode.AUTO)
LOOKS = Observed(
    metrics=Metrics.OK,
    proposal=Proposal.SAME,
    stable=Stable.SETTLED,
    leave=Leave.GRANTED,
    start_seconds=START_SECONDS,
)
SERVES = replace(LOOKS, candidate=Candidate.READY, warm=True)


def life(*seen: tuple[float, Observed], durations: Durations | None = None) -> Iterator[Standing]:
    """The states that observations lead to, each made so many seconds after the one before."""
    now, standing = NOW, beginning(AUTO, NOW)
    for later, observed in seen:
        now += later
        standing = transition(standing, AUTO, observed, now, durations).standing
        yield standing


def path(*seen: tuple[float, Observed]) -> list[str]:
    return [standing.state.value for standing in life(*seen)]


def test_a_better_setting_is_tried_promoted_and_verified() -> None:
    good = replace(SERVES, judged=Judged.GOOD)
    assert path(
        (1, LOOKS), (1, LOOKS), (60, SERVES), (130, SERVES), (1200, good), (300, SERVES),
        (3599, good), (1, good),
    ) == [
        "Proposed", "Starting", "Warming", "Judging", "Promoting", "Verifying",
        "Verifying", "Observing",
    ]  # fmt: skip


def test_a_worse_setting_is_taken_back_and_nothing_is_tried_for_four_hours() -> None:
    bad = replace(SERVES, judged=Judged.BAD)
    gone = replace(LOOKS, rollbacks=1)
    assert path(
        (1, LOOKS), (1, LOOKS), (60, SERVES), (130, SERVES), (1200, bad), (1, bad), (9, gone),
        (4 * 3600 - 1, gone), (1, gone),
    ) == [
        "Proposed", "Starting", "Warming", "Judging", "RollingBack", "RollingBack", "CoolingDown",
        "CoolingDown", "Observing",
    ]  # fmt: skip


def test_a_trial_without_room_cools_down_for_an_hour() -> None:
    full = replace(LOOKS, candidate=Candidate.NO_ROOM)
    states = list(life((1, LOOKS), (1, LOOKS), (120, full), (5, LOOKS)))
    assert states[2].reason == "NoRoomForCanary"
    assert states[3].until == states[3].since + 3600


def test_an_interrupted_trial_does_not_cool_down() -> None:
    scaled = replace(SERVES, change=Change.SCALED)
    assert path((1, LOOKS), (1, LOOKS), (60, SERVES), (1, scaled), (5, LOOKS))[3:] == [
        "RollingBack", "Observing",
    ]  # fmt: skip


def test_a_pod_that_is_drained_is_awaited_once() -> None:
    drained = replace(SERVES, candidate=Candidate.PENDING)
    states = list(
        life((1, LOOKS), (1, LOOKS), (60, SERVES), (9, drained), (60, SERVES), (9, drained))
    )
    assert [one.state.value for one in states[3:]] == ["Starting", "Warming", "RollingBack"]
    assert [one.reason for one in states[3:]] == ["InCanary", "InCanary", "Interrupted"]


def test_a_trial_s_time_counts_from_when_its_pod_serves() -> None:
    states = list(life((1, LOOKS), (1, LOOKS), (60, SERVES), (500, SERVES), (6699, SERVES)))
    assert states[-1].state is State.JUDGING
    assert states[-1].until == states[2].since + 7200


def test_where_few_requests_come_a_trial_has_eight_hours() -> None:
    quiet = replace(SERVES, quiet=True)
    *_, warming = life((1, LOOKS), (1, LOOKS), (60, quiet))
    assert warming.until == warming.since + 8 * 3600


@pytest.mark.parametrize(
    ("rollbacks", "hours"), [(1, 4), (2, 8), (3, 16), (4, 24), (5, 24), (5000, 24)]
)
def test_each_rollback_that_follows_another_doubles_the_rest_up_to_a_day(
    rollbacks: int, hours: int
) -> None:
    assert cool_down(rollbacks, "RolledBack", Durations()) == hours * 3600


@pytest.mark.parametrize("reason", ["Inconclusive", "NoRoomForCanary"])
def test_after_a_trial_that_told_nothing_an_hour_is_enough(reason: str) -> None:
    assert cool_down(5, reason, Durations()) == 3600


def test_a_proposal_that_waits_is_told_anew_after_an_hour_and_keeps_its_beginning() -> None:
    spent = replace(LOOKS, leave=Leave.BUDGET_SPENT)
    closed = replace(LOOKS, leave=Leave.OUTSIDE_WINDOW)
    states = list(life((1, spent), (3599, closed), (1, closed), (3600, closed)))
    reasons = [one.reason for one in states]
    assert reasons == ["BudgetSpent", "BudgetSpent", "OutsideWindow", "OutsideWindow"]
    assert {one.since for one in states} == {NOW + 1}


def test_a_proposal_that_may_begin_does_not_wait_for_that_hour() -> None:
    spent = replace(LOOKS, leave=Leave.BUDGET_SPENT)
    assert path((1, spent), (1, LOOKS)) == ["Proposed", "Starting"]


def test_every_leave_is_told() -> None:
    assert set(LEAVES) == set(Leave)


def test_a_status_that_is_lost_means_observing_whatever_ran() -> None:
    assert wants(beginning(AUTO, NOW).state) is Wants.STABLE
    assert beginning(Desired(Mode.DISABLED), NOW).state is State.DISABLED


def test_a_clock_that_goes_back_ends_nothing() -> None:
    standing = Standing(State.COOLING_DOWN, NOW, NOW + 3600, "CoolingDown")
    step = transition(standing, AUTO, LOOKS, NOW - 1e6)
    assert step.standing is standing


@pytest.mark.parametrize(("at", "left"), [(-10, 10), (0, None), (10, None)])
def test_time_is_waited_for_until_it_is_over_and_not_again(at: float, left: float | None) -> None:
    standing = Standing(State.VERIFYING, NOW - 3600, NOW, "Promoted")
    step = transition(standing, AUTO, replace(SERVES, metrics=Metrics.HOLD), NOW + at)
    assert (step.standing, step.look_again) == (standing, left)


GOOD = replace(SERVES, judged=Judged.GOOD)
BAD = replace(SERVES, judged=Judged.BAD)
LIVES = [
    [(60, LOOKS), (60, LOOKS), (60, SERVES), (135, SERVES), (1200, GOOD), (300, SERVES),
     (3585, SERVES), (15, SERVES)],
    [(60, LOOKS), (60, LOOKS), (60, SERVES), (135, SERVES), (1200, BAD),
     (60, replace(LOOKS, rollbacks=2)), (28_785, LOOKS), (15, LOOKS)],
    [(60, replace(LOOKS, proposal=Proposal.SETTLED)),
     (885, replace(LOOKS, load=Load.DRIFTED)), (15, replace(LOOKS, load=Load.DRIFTED))],
    [(60, LOOKS), (60, LOOKS), (60, replace(SERVES, quiet=True)), (28_785, SERVES),
     (15, SERVES), (15, SERVES)],
]  # fmt: skip


@pytest.mark.parametrize("seen", LIVES)
@pytest.mark.parametrize("interval", [1, 60])
def test_scaling_the_interval_scales_every_time_and_changes_no_state(
    seen: list[tuple[float, Observed]], interval: float
) -> None:
    k = interval / 15
    scaled = [(k * t, replace(one, start_seconds=k * START_SECONDS)) for t, one in seen]
    usual = [(one.state, one.since, one.until) for one in life(*seen)]
    fast = [
        (one.state, one.since, one.until) for one in life(*scaled, durations=Durations(interval))
    ]
    assert [
        (state, pytest.approx(NOW + k * (since - NOW)),
         None if until is None else pytest.approx(NOW + k * (until - NOW)))
        for state, since, until in usual
    ] == fast  # fmt: skip


def test_every_time_that_an_edge_sets_is_a_multiple_of_the_interval() -> None:
    by_edge = {id(step.edge): (one, step) for one, step in cases() if step.edge}
    timed = set()
    for (standing, desired, observed), step in by_edge.values():
        if step.standing.state is State.JUDGING or step.standing.until is None:
            continue  # a trial that is judged has the time that its pod began with
        fast = replace(observed, start_seconds=START_SECONDS / 15)
        short = transition(standing, desired, fast, NOW, Durations(1.0)).standing
        assert short.until is not None
        assert short.until - NOW == pytest.approx((step.standing.until - NOW) / 15)
        timed.add(step.standing.state.value)
    assert timed == {"Settled", "Proposed", "Starting", "Warming", "Verifying", "CoolingDown"}


TRIED, PROMOTED = ("Starting", "Warming", "Judging"), ("Promoting", "Verifying")


@pytest.mark.parametrize(
    ("states", "verdict", "kept"),
    [(TRIED, "Interrupted", False), (PROMOTED, "Promoted", True)],
)
@pytest.mark.parametrize("guard", ["halted", "recommends only"])
def test_what_ends_a_trial_from_outside_leaves_what_was_promoted(
    states: tuple[str, ...], verdict: str, kept: bool, guard: str
) -> None:
    found = [one for one in EDGES if one.guard == guard and one.source.value in states]
    assert [one.source.value for one in found] == list(states)
    assert {one.verdict for one in found} == {verdict}
    assert {"the new setting stays" in one.sentence for one in found} == {kept}
