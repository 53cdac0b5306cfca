"""What is intended for a server, over the product of all that may be seen of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import product
from typing import Any, cast

import pytest

from support.builders import make_server
from support.observed import FAILED, NOW, POD
from vllm_operator.api.plan import Problem
from vllm_operator.engine.failures import Failure
from vllm_operator.lifecycle.intent import (
    CHAIN,
    Decision,
    GiveUp,
    Intent,
    Keep,
    PlanAnew,
    RepairPlan,
    TakeBack,
    World,
    given_up,
    intend,
)
from vllm_operator.lifecycle.kept import Revisions
from vllm_operator.lifecycle.records import PodRecord
from vllm_operator.lifecycle.recovery import OUTAGE_SECONDS, Diagnosis
from vllm_operator.lifecycle.remembered import Remembered
from vllm_operator.lifecycle.revisions import Abandoned, Pinned, Relation

from .test_recovery import IN_FORCE, SMALL

SERVER = make_server()
OTHER = make_server(model={"id": "c/d"})
LONG_AGO = (NOW - timedelta(seconds=10 * OUTAGE_SECONDS)).strftime("%Y-%m-%dT%H:%M:%SZ")
CURRENT = replace(IN_FORCE, name="qwen-2", template="1-now", created_at=LONG_AGO)
BEFORE = replace(IN_FORCE, name="qwen-1", spec=OTHER.spec, template="1-before")
HOPELESS = Failure("EngineRefused", "no", "edit it", passes=False)
PASSES = Failure("HubUnreachable", "away", "wait", passes=True)


def abandoned(server: Any, *, stopped: bool) -> Abandoned:
    return Abandoned(server.spec, None, "OOMKilled", "too little", stopped, "qwen-0")


IN_FORCE_BY_RELATION = {
    Relation.ABSENT: None,
    Relation.CURRENT: CURRENT,
    Relation.STOPPED: replace(CURRENT, abandoned=abandoned(SERVER, stopped=True)),
    Relation.STANDS_IN: replace(
        CURRENT, spec=OTHER.spec, abandoned=abandoned(SERVER, stopped=False)
    ),
    Relation.WANTED_AGAIN: replace(CURRENT, abandoned=abandoned(OTHER, stopped=False)),
    Relation.OTHER_POD: replace(CURRENT, spec=make_server(pod={"labels": {"a": "b"}}).spec),
    Relation.OUTDATED: replace(CURRENT, spec=OTHER.spec),
}
MINE = replace(
    FAILED,
    template=CURRENT.template,
    created_at=LONG_AGO,
    waiting_reason="CrashLoopBackOff",
)
PODS: dict[str, tuple[PodRecord, ...]] = {
    "none": (),
    "fails": (MINE,),
    "loads": (MINE, replace(POD, uid="l", template=CURRENT.template)),
    "serves": (MINE, replace(POD, uid="s", template=CURRENT.template, ready=True)),
    "the plan before serves": (MINE, replace(POD, uid="o", template="1-before", ready=True)),
    "finds no node": (
        replace(POD, template=CURRENT.template, scheduled=False, unschedulable_since=LONG_AGO),
    ),
}
DIAGNOSES = {
    "nothing": None,
    "reparable": Diagnosis(SMALL, 2),
    "hopeless, once": Diagnosis(HOPELESS, 1),
    "hopeless, twice": Diagnosis(HOPELESS, 2),
    "passes": Diagnosis(PASSES, 5),
    "served before": Diagnosis(HOPELESS, 5, served=True),
}
DOWN = {
    "conditions": [
        {
            "type": "Available",
            "status": "False",
            "reason": "NoReplicaReady",
            "message": "",
            "observedGeneration": 1,
            "lastTransitionTime": LONG_AGO,
        }
    ]
}
UNREADABLE = (Problem(field="spec", reason="IllegalPin", message="no"),)


@dataclass(frozen=True)
class Kept:
    """Stands for the pinned plans: only those that decisions read."""

    in_force: Pinned | None
    last_ready: Pinned | None


PAUSED = make_server(paused=True)


def worlds() -> Iterator[tuple[Relation, World]]:
    """Every combination of what may be seen."""
    for related, (server, unreadable), readable, ready, pods, diagnosis, down, repairs in product(
        Relation,
        ((SERVER, ()), (PAUSED, ()), (SERVER, UNREADABLE)),
        (True, False),
        ("never", "now", "before"),
        PODS.values(),
        DIAGNOSES.values(),
        (Remembered.from_status(None), Remembered.from_status(DOWN)),
        (0, 3),
    ):
        in_force = IN_FORCE_BY_RELATION[related]
        if in_force is not None:
            made = [{"kind": "fewerSequences", "limit": 1, "reason": ""}] * repairs
            sized = in_force.sized if readable else None
            in_force = replace(in_force, sized=sized, inputs={"repairs": made})
        last_ready = {"never": None, "now": in_force, "before": BEFORE}[ready]
        kept = cast(Revisions, Kept(in_force, last_ready))
        told = None if in_force is None else diagnosis
        yield related, World(server, unreadable, kept, down, pods, told, NOW)


WORLDS = list(worlds())

MAY: dict[Relation, tuple[type[Intent], ...]] = {
    Relation.ABSENT: (PlanAnew,),
    Relation.CURRENT: (Keep, RepairPlan, GiveUp),
    Relation.STOPPED: (Keep,),
    Relation.STANDS_IN: (Keep,),
    Relation.WANTED_AGAIN: (TakeBack,),
    Relation.OTHER_POD: (PlanAnew,),
    Relation.OUTDATED: (PlanAnew,),
}


def test_every_relation_is_what_it_is_called() -> None:
    assert {related: world.relation for related, world in WORLDS} == {
        related: related for related in Relation
    }


def test_exactly_what_a_relation_allows_is_intended() -> None:
    for related, world in WORLDS:
        intent = intend(world).intent
        quiet = world.server.spec.paused or world.unreadable
        unread = world.in_force is not None and world.in_force.plan is None
        if quiet or (unread and related.is_planned):
            assert intent == Keep()
        else:
            assert isinstance(intent, MAY[related]), (related, intent)


def test_each_intent_and_each_link_has_a_world_in_which_it_acts() -> None:
    acting = {
        next(link.__name__ for link in CHAIN if link(world) is not None) for _, world in WORLDS
    }
    # Where a trial is asked for, and which intents follow, is test_trial's.
    assert acting == {link.__name__ for link in CHAIN} - {"tuning"}
    assert {type(intend(world).intent) for _, world in WORLDS} == {
        Keep,
        PlanAnew,
        RepairPlan,
        GiveUp,
        TakeBack,
    }


def test_a_plan_that_a_pod_serves_with_is_neither_repaired_nor_given_up() -> None:
    for _, world in WORLDS:
        if world.pods == PODS["serves"]:
            assert not isinstance(intend(world).intent, RepairPlan | GiveUp)


def test_a_specification_that_has_served_is_never_given_up() -> None:
    for _, world in WORLDS:
        good = world.revisions.last_ready
        if good is not None and good.is_for(world.server):
            assert not isinstance(intend(world).intent, GiveUp)


def test_what_replaces_a_plan_that_is_given_up_is_the_plan_before_or_nothing() -> None:
    for _, world in WORLDS:
        intent = intend(world).intent
        if isinstance(intent, GiveUp):
            good = world.revisions.last_ready
            assert intent.kept == (good or world.in_force)
            assert intent.abandoned.stopped == (good is None)
            assert intent.abandoned.is_of(world.server)


def after(world: World, intent: Intent) -> World:
    """The world once the intent was carried out, with pods that fail as before."""
    in_force = world.in_force
    match intent:
        case PlanAnew():
            fresh = replace(CURRENT, spec=world.server.spec, inputs={}, template="1-fresh")
            in_force = fresh
        case RepairPlan(repair):
            assert in_force is not None
            made = [*in_force.inputs.get("repairs", ()), repair.to_json_object()]
            in_force = replace(in_force, inputs={"repairs": made})
        case GiveUp(kept, given):
            in_force = replace(kept, abandoned=given)
        case TakeBack():
            assert in_force is not None
            in_force = replace(in_force, abandoned=None)
    last_ready = world.revisions.last_ready
    return replace(world, revisions=cast(Revisions, Kept(in_force, last_ready)))


def test_no_intent_is_repeated_for_ever() -> None:
    for related, world in WORLDS:
        seen, now = [], world
        while not isinstance(intent := intend(now).intent, Keep):
            seen.append(intent)
            assert len(seen) <= 6, (related, seen)
            now = after(now, intent)


OF_ANOTHER_TEMPLATE = {
    "waits for a node": replace(
        POD,
        template="1-other",
        scheduled=False,
        unschedulable_since=LONG_AGO,
        unschedulable_message="0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
    ),
    "crashes": replace(MINE, uid="c", template="1-other"),
    "loads": replace(POD, uid="l", template="1-other"),
}


@pytest.mark.parametrize("seen", OF_ANOTHER_TEMPLATE)
def test_a_pod_that_serves_nobody_and_is_of_no_plan_s_template_decides_nothing(seen: str) -> None:
    elsewhere = replace(BEFORE, spec=make_server(pod={"nodeSelector": {"pool": "a"}}).spec)
    for related, world in WORLDS:
        if related is Relation.CURRENT and not world.server.spec.paused and not world.unreadable:
            good = elsewhere if world.revisions.last_ready == BEFORE else None
            kept = cast(Revisions, Kept(world.in_force, good or world.revisions.last_ready))
            alone = replace(world, revisions=kept)
            beside = replace(alone, pods=(*world.pods, OF_ANOTHER_TEMPLATE[seen]))
            assert intend(beside) == intend(alone)


def test_a_repair_that_cannot_be_is_not_intended_again() -> None:
    for _, world in WORLDS:
        if isinstance(intend(world).intent, RepairPlan):
            again = intend(replace(world, irreparable="it changes nothing"))
            assert not isinstance(again.intent, RepairPlan)


def world_of(related: Relation, **seen: Any) -> World:
    """One world, in which nothing is wrong unless it is said."""
    kept = Kept(IN_FORCE_BY_RELATION[related], seen.pop("last_ready", None))
    common = {"pods": (), "diagnosis": None, "now": NOW, "unreadable": ()}
    remembered = Remembered.from_status(seen.pop("status", None))
    return World(
        server=seen.pop("server", SERVER),
        revisions=cast(Revisions, kept),
        remembered=remembered,
        **{**common, **seen},
    )


def test_a_specification_that_was_given_up_says_why_it_has_no_plan() -> None:
    found = intend(world_of(Relation.STANDS_IN))
    assert found.intent == Keep()
    assert [(one.field, one.reason) for one in found.problems] == [("spec", "OOMKilled")]


def test_a_plan_of_another_release_is_kept_and_named() -> None:
    unread = replace(CURRENT, sized=None, release="0.0.9")
    world = replace(world_of(Relation.CURRENT), revisions=cast(Revisions, Kept(unread, None)))
    found = intend(world)
    assert found.intent == Keep()
    assert found.problems[0].reason == "PlanUnreadable"
    assert "release 0.0.9" in found.problems[0].message


def test_what_stops_the_pods_is_told_also_where_another_plan_is_wanted() -> None:
    found = intend(world_of(Relation.OUTDATED, diagnosis=Diagnosis(HOPELESS, 9)))
    assert found.trouble is not None
    assert found.trouble.reason == "EngineRefused"


def test_a_repair_that_gives_no_other_plan_is_told_with_its_reason() -> None:
    world = world_of(Relation.CURRENT, pods=PODS["fails"], diagnosis=Diagnosis(SMALL, 1))
    assert isinstance(intend(world).intent, RepairPlan)
    found = intend(replace(world, irreparable="no layout is left"))
    assert found.trouble is not None
    assert "a repair is not possible: no layout is left" in found.trouble.message


def test_an_outage_that_time_alone_ends_is_looked_at_again() -> None:
    recent = (NOW - timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
    down = {"conditions": [{**DOWN["conditions"][0], "lastTransitionTime": recent}]}
    found = intend(
        world_of(
            Relation.CURRENT,
            status=down,
            last_ready=BEFORE,
            pods=PODS["fails"],
            diagnosis=Diagnosis(PASSES, 1),
        )
    )
    assert found.intent == Keep()
    assert found.look_again == pytest.approx(OUTAGE_SECONDS - 60)


def test_a_stopped_plan_has_no_problem_of_planning() -> None:
    assert given_up(world_of(Relation.STOPPED)) == Decision(Keep())


def test_a_paused_server_that_cannot_be_read_says_why() -> None:
    found = intend(world_of(Relation.CURRENT, server=PAUSED, unreadable=UNREADABLE))
    assert found == Decision(Keep(), UNREADABLE)
