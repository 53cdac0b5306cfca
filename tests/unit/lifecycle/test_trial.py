"""What a held rollout is seen to be, what ends it, and that what nobody wants is never held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any, Final

import pytest

from support.builders import OFFER, make_plan, make_planned, make_server, make_sized
from support.observed import DEPLOYMENT, NOW, POD
from vllm_operator.api.plan import Problem
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.lifecycle.intent import BeginTrial, Hold, Promote, World, intend
from vllm_operator.lifecycle.kept import Revisions
from vllm_operator.lifecycle.reading import revision_record
from vllm_operator.lifecycle.records import ChildRecord, PodRecord
from vllm_operator.lifecycle.remembered import Remembered
from vllm_operator.lifecycle.revisions import controller_revision
from vllm_operator.lifecycle.trial import (
    End,
    Mark,
    Shape,
    Wanted,
    _owned,
    begun,
    ending,
    holding,
    is_beside,
    obstacle,
    see,
    stays_through,
)
from vllm_operator.lifecycle.trials import (
    Candidate,
    Trial,
    promoted,
    restored,
    trial_revision,
    unlike,
)
from vllm_operator.manifests.render import IN_PLACE, LET_GO, SURGE, render, template_of
from vllm_operator.sizing.asked.tuned import Tuned
from vllm_operator.tuning.standing import Wants

SURGE_TIMEOUT = 120
CANDIDATE = Candidate(Tuned("late", max_num_seqs=96), "objective", {"intervals": 60}, {"gain": 1.2})
NO_GPU = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
QUOTA = 'pods "q" is forbidden: exceeded quota: g, requested: pods=1, used: pods=2, limited: pods=2'


def tuned_server(replicas: int = 2, **autotune: Any) -> VLLMServer:
    return make_server(replicas=replicas, autotune={"mode": "Auto", **autotune})


def planned(server: VLLMServer, seqs: str) -> Any:
    command = ["vllm", "serve", "m", "--max-num-seqs", seqs]
    plan = make_plan(engine={"image": "i", "version": "0.30.0", "command": command, "env": {}})
    return make_planned(*render(server, plan, OFFER), plan=plan)


def pin(body: dict[str, Any], at: str = "2026-01-01T00:00:00Z") -> Any:
    metadata = {**body["metadata"], "uid": body["metadata"]["name"], "creationTimestamp": at}
    return revision_record({**body, "metadata": metadata})


SERVER: Final = tuned_server()
STABLE_PLAN, TRIAL_PLAN = planned(SERVER, "256"), planned(SERVER, "96")
RECORDS: Final = [pin(controller_revision(SERVER, 1, {}, STABLE_PLAN))]
KEPT: Final = Revisions(RECORDS)
IN_FORCE = KEPT.in_force
assert IN_FORCE is not None
INPUTS = {"tuned": CANDIDATE.tuned.to_json_object()}
TRIAL_RECORD: Final = pin(trial_revision(SERVER, 2, INPUTS, TRIAL_PLAN, CANDIDATE, IN_FORCE))
WITH_TRIAL: Final = Revisions([*RECORDS, TRIAL_RECORD])
(TRIAL,) = WITH_TRIAL.trials
S, T = template_of(STABLE_PLAN.objects), template_of(TRIAL_PLAN.objects)
CALM: Final = replace(
    DEPLOYMENT, spec_replicas=2, replicas=2, updated_replicas=2, ready_replicas=2, template=S
)
MARK: Final = begun(TRIAL, CALM, "around", NOW, in_place=False)


def held(mark: Mark = MARK, **facts: Any) -> ChildRecord:
    """A Deployment with the trial, as nobody has touched it."""
    shape = holding(TRIAL, mark, 2)
    common: dict[str, Any] = {
        "template": T,
        "trial": str(mark),
        "surroundings": "around",
        "min_ready_seconds": 2147483646,
        "owned_fields": _owned(shape),
        "replicas": 3,
        "updated_replicas": 1,
        "ready_replicas": 3,
        "in_place": bool(mark.in_place),
    }
    return replace(CALM, **{**common, **facts})


def pod(name: str, template: str, **facts: Any) -> PodRecord:
    common = {"template": template, "template_hash": template, "ready": True}
    return replace(POD, name=name, uid=name, **{**common, **facts})


STABLE = [pod("a", S), pod("b", S)]
TRIED = pod("t", T, created_at="2026-01-01T00:00:01Z")
WAITS = replace(
    TRIED, scheduled=False, ready=False, unschedulable_since="x", unschedulable_message=NO_GPU
)


def seen(
    deployment: ChildRecord, *pods: PodRecord, server: VLLMServer = SERVER, seconds: float = 60
) -> Any:
    assert IN_FORCE is not None
    now = NOW + timedelta(seconds=seconds)
    return see(server, IN_FORCE, WITH_TRIAL.trials, deployment, pods, now)


# What is pinned


def test_a_trial_is_pinned_with_its_why_and_is_never_in_force_by_itself() -> None:
    assert WITH_TRIAL.in_force is not None
    assert WITH_TRIAL.in_force.name == TRIAL.parent == RECORDS[0].name
    assert (TRIAL.trigger, TRIAL.evidence, TRIAL.predicted) == (
        "objective",
        {"intervals": 60},
        {"gain": 1.2},
    )
    assert TRIAL.tuned == CANDIDATE.tuned
    assert WITH_TRIAL.next_number == 3


def test_a_release_that_knows_no_trials_cannot_take_one_for_a_plan() -> None:
    assert "objects" not in TRIAL_RECORD.data()
    assert "spec" not in TRIAL_RECORD.data()


def test_ten_trials_are_kept_beside_five_plans() -> None:
    assert IN_FORCE is not None
    tried = [
        pin(trial_revision(SERVER, number, INPUTS, TRIAL_PLAN, CANDIDATE, IN_FORCE))
        for number in range(2, 14)
    ]
    kept = Revisions([*RECORDS, *tried])
    assert [one.revision for one in kept.expendable()] == [2, 3]


def test_a_promoted_trial_is_a_plan_with_the_same_objects_that_says_so_and_keeps_its_parent() -> (
    None
):
    record = pin(promoted(SERVER, 3, TRIAL_RECORD, TRIAL))
    newer = [pin(controller_revision(SERVER, number, {}, STABLE_PLAN)) for number in range(4, 8)]
    kept = Revisions([*RECORDS, TRIAL_RECORD, record])
    assert kept.in_force is not None
    assert kept.in_force.objects == TRIAL.pinned.objects
    assert kept.in_force.tuning == {"trial": TRIAL.name, "parent": TRIAL.parent}
    assert TRIAL.is_in_force(kept.in_force)
    assert kept.promoted(TRIAL)
    assert not WITH_TRIAL.promoted(TRIAL)
    crowd = Revisions([*RECORDS, *newer, replace(record, revision=9, name="q-9")])
    assert RECORDS[0].name not in [one.name for one in crowd.expendable()]


def test_the_plan_before_a_promoted_trial_comes_back_as_it_was() -> None:
    record = pin(restored(SERVER, 4, RECORDS[0], TRIAL))
    kept = Revisions([*RECORDS, TRIAL_RECORD, record])
    assert kept.in_force is not None
    assert kept.in_force.objects == KEPT.in_force.objects  # type: ignore[union-attr]
    assert kept.in_force.tuning == {"instead": TRIAL.name}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"proposed_at": "2026-01-01T00:00:00Z"}, True),
        ({"proposed_at": "2026-01-01T00:00:01Z"}, False),
        ({"tuned": Tuned("late", max_num_seqs=128)}, False),
        ({"tuned": Tuned("another reason", max_num_seqs=96)}, True),
    ],
)
def test_a_visit_goes_on_with_the_trial_that_one_before_it_pinned(
    change: dict[str, Any], same: bool
) -> None:
    assert IN_FORCE is not None
    assert TRIAL.is_of(replace(CANDIDATE, **change), IN_FORCE) is same


def test_a_plan_that_differs_in_more_than_its_knobs_is_no_trial() -> None:
    assert IN_FORCE is not None
    assert unlike(IN_FORCE, TRIAL_PLAN) is None
    assert unlike(IN_FORCE, STABLE_PLAN) == "the setting changes no argument of the engine"
    longer = {**TRIAL_PLAN.plan.startup.to_json_object(), "budgetSeconds": 1800.0}
    slow = make_plan(engine=TRIAL_PLAN.plan.engine, startup=longer)
    found = unlike(IN_FORCE, make_planned(*render(SERVER, slow, OFFER), plan=slow))
    assert found is not None
    assert "in more than what is tuned" in found


# What ends it


def test_a_trial_that_nobody_touched_goes_on() -> None:
    found = seen(held(), *STABLE, TRIED)
    assert (found.held.name, found.end, found.serves) == (TRIAL.name, None, True)


@pytest.mark.parametrize(
    "facts",
    [
        {"template": S},
        {"surroundings": "others"},
        {"min_ready_seconds": 3600},
        {"paused": True},
        {"owned_fields": "fewer"},
    ],
    ids=str,
)
def test_whatever_somebody_changes_of_it_disturbs_it(facts: dict[str, Any]) -> None:
    assert seen(held(**facts), *STABLE, TRIED).end is End.DISTURBED


def test_two_replica_sets_of_one_template_are_no_trial() -> None:
    other = replace(TRIED, name="u", template_hash="another")
    assert seen(held(), *STABLE, TRIED, other).end is End.DISTURBED


def test_a_hold_that_is_gone_is_no_trial() -> None:
    assert seen(held(min_ready_seconds=0), *STABLE, TRIED).held is None


def test_a_held_trial_that_was_deleted_had_found_no_room() -> None:
    found = seen(held(replace(MARK, trial="another")), *STABLE, TRIED)
    assert (found.held, found.end) == (None, End.NO_ROOM)


def test_another_plan_in_force_ends_it() -> None:
    assert seen(held(replace(MARK, parent="qwen-0")), *STABLE, TRIED).end is End.REPLANNED


@pytest.mark.parametrize(
    ("parent", "let_go", "beside"),
    [
        ("the plan in force", False, True),
        ("the plan in force", True, True),
        ("another plan", False, False),
        ("another plan", True, False),
        ("none", False, False),
    ],
)
def test_a_trial_stands_beside_the_plan_that_it_began_over_alone(
    parent: str, let_go: bool, beside: bool
) -> None:
    mark = MARK if parent == "the plan in force" else replace(MARK, parent="qwen-0")
    facts = {"min_ready_seconds": 0} if let_go else {}
    deployment = CALM if parent == "none" else held(mark, **facts)
    assert is_beside(IN_FORCE, deployment) is beside


@pytest.mark.parametrize(
    ("before", "after", "in_place", "stays"),
    [
        (2, 3, False, True),
        (2, 4, False, False),
        (2, 1, False, True),
        (2, 0, False, False),
        (9, 14, False, False),
        (9, 13, False, True),
        (9, 4, False, True),
        (9, 3, False, False),
        (1, 2, True, False),
        (3, 4, True, True),
    ],
)
def test_a_scaling_is_stood_within_bounds(
    before: int, after: int, in_place: bool, stays: bool
) -> None:
    mark = replace(MARK, in_place=MARK.began if in_place else "")
    assert stays_through(mark, before, after) is stays


def test_a_new_replica_without_a_gpu_ends_it_and_a_lost_one_does_not() -> None:
    waits = replace(WAITS, name="b", template=S, template_hash=S)
    grown = seen(held(), pod("a", S), waits, TRIED, server=tuned_server(3))
    assert grown.end is End.SCALED
    lost = seen(held(), pod("a", S), waits, TRIED)
    assert (lost.end, lost.crowded) == (None, True)


def test_a_pod_without_a_node_may_wait_for_the_surge_timeout_and_no_longer() -> None:
    early = seen(held(), *STABLE, WAITS, seconds=SURGE_TIMEOUT)
    assert (early.end, early.look_again) == (None, 1.0)
    assert seen(held(), *STABLE, WAITS, seconds=SURGE_TIMEOUT + 1).end is End.NO_ROOM


def test_a_pod_that_is_refused_may_wait_as_long() -> None:
    refused = held(message=QUOTA, refused_since="2026-01-01T00:00:00Z")
    assert seen(refused, *STABLE, seconds=SURGE_TIMEOUT - 1).end is None
    assert seen(refused, *STABLE, seconds=SURGE_TIMEOUT).end is End.NO_ROOM


def test_a_pod_that_is_about_to_be_made_ends_nothing() -> None:
    assert seen(held(), *STABLE, seconds=3600).end is None


def test_a_pod_that_came_for_one_that_had_run_was_a_start() -> None:
    later = replace(WAITS, created_at="2026-01-01T01:00:00Z")
    assert seen(held(), *STABLE, later, seconds=3600).end is None
    assert seen(held(), *STABLE, later, seconds=3600 + SURGE_TIMEOUT).end is End.LOST


def test_where_it_may_a_pod_without_room_takes_a_stable_one_s_place() -> None:
    allowed = tuned_server(disruption="Allow")
    found = seen(held(), *STABLE, WAITS, server=allowed, seconds=SURGE_TIMEOUT + 1)
    assert (found.end, found.displaces) == (None, True)
    typo = replace(WAITS, unschedulable_message="1 node(s) didn't match Pod's node affinity.")
    hopeless = seen(held(), *STABLE, typo, server=allowed, seconds=SURGE_TIMEOUT + 1)
    assert hopeless.end is End.NO_ROOM


def test_in_another_one_s_place_it_waits_for_the_timeout_once_more() -> None:
    allowed = tuned_server(disruption="Allow")
    mark = replace(MARK, in_place="2026-01-01T00:02:00Z")
    early = seen(held(mark), *STABLE, WAITS, server=allowed, seconds=2 * SURGE_TIMEOUT - 1)
    assert (early.end, early.look_again) == (None, 1.0)
    late = seen(held(mark), *STABLE, WAITS, server=allowed, seconds=2 * SURGE_TIMEOUT)
    assert late.end is End.NO_ROOM


def test_who_forbids_disruption_ends_a_trial_in_place() -> None:
    mark = replace(MARK, in_place=MARK.began)
    assert seen(held(mark), *STABLE, TRIED).end is End.FORBIDDEN


# When it begins


@pytest.mark.parametrize(
    ("server", "deployment", "pods", "words"),
    [
        (SERVER, CALM, STABLE, None),
        (tuned_server(mode="Recommend"), CALM, STABLE, "not Auto"),
        (tuned_server(0), CALM, STABLE, "replicas is 0"),
        (SERVER, None, [], "no Deployment"),
        (SERVER, replace(CALM, deleting=True), STABLE, "no Deployment"),
        (SERVER, replace(CALM, controller_uid="u"), STABLE, "no Deployment"),
        (SERVER, held(), [*STABLE, TRIED], "not over"),
        (SERVER, replace(CALM, min_ready_seconds=2147483646), STABLE, "not over"),
        (SERVER, replace(CALM, paused=True), STABLE, "is paused"),
        (SERVER, replace(CALM, template=T), STABLE, "the plan in force"),
        (SERVER, replace(CALM, spec_replicas=3), STABLE, "rollout"),
        (SERVER, replace(CALM, observed_generation=0), STABLE, "rollout"),
        (SERVER, replace(CALM, ready_replicas=1), STABLE, "rollout"),
        (SERVER, CALM, [*STABLE, TRIED], "not ready"),
        (SERVER, CALM, [STABLE[0], replace(STABLE[1], ready=False)], "not ready"),
        (SERVER, CALM, [STABLE[0]], "not ready"),
        (SERVER, CALM, [*STABLE, replace(TRIED, deleting=True)], None),
        (SERVER, CALM, [*STABLE, replace(STABLE[0], deleting=True)], None),
    ],
)
def test_a_trial_begins_only_over_a_settled_stable(
    server: VLLMServer, deployment: ChildRecord | None, pods: list[PodRecord], words: str | None
) -> None:
    assert IN_FORCE is not None
    found = obstacle(server, IN_FORCE, deployment, pods)
    assert found is None if words is None else words in str(found)


def test_no_trial_begins_where_a_replica_takes_several_nodes_or_no_pod_can_stand_beside() -> None:
    assert IN_FORCE is not None
    group = replace(IN_FORCE, objects=({"kind": "LeaderWorkerSet"},))
    assert obstacle(SERVER, group, CALM, STABLE) == "a replica takes several nodes"
    storage = {"kind": "PersistentVolumeClaim", "mode": "Cache", "surge": False}
    alone = replace(IN_FORCE, sized=make_sized(storage=storage))
    assert "the volume" in str(obstacle(SERVER, alone, CALM, STABLE))
    assert obstacle(tuned_server(disruption="Allow"), alone, CALM, STABLE) is None


# What the Deployment is to be


def ended(deployment: ChildRecord, *pods: PodRecord, parent: Any = IN_FORCE) -> Shape | None:
    assert IN_FORCE is not None
    return ending(seen(deployment, *pods), IN_FORCE, parent, deployment, pods)


def test_a_trial_that_is_held_is_one_pod_more() -> None:
    shape = holding(TRIAL, MARK, 2)
    desired = shape.of_the_moment(SERVER)["spec"]
    assert desired["minReadySeconds"] == 2147483646
    assert desired["progressDeadlineSeconds"] == 2147483647
    assert desired["paused"] is False
    assert desired["strategy"]["rollingUpdate"] == SURGE
    assert (desired["replicas"], shape.least) == (2, 2)


def test_a_trial_in_the_place_of_another_pod_is_none_more() -> None:
    shape = holding(TRIAL, replace(MARK, in_place=MARK.began), 2)
    assert (shape.rolling_update, shape.least) == (IN_PLACE, None)


def test_an_end_goes_back_to_what_it_began_beside_at_the_replicas_of_the_moment() -> None:
    shape = ended(held(spec_replicas=5), *STABLE, TRIED)
    assert shape is not None
    desired = shape.of_the_moment(tuned_server(0))
    assert template_of([desired]) == S
    assert desired["spec"]["minReadySeconds"] == 0
    assert desired["spec"]["progressDeadlineSeconds"] < 2147483647
    assert desired["spec"]["replicas"] == 5


def test_an_end_passes_stable_pods_that_do_not_serve() -> None:
    for lost, unavailable in ((0, 1), (1, 1), (2, 2)):
        pods = [replace(one, ready=number >= lost) for number, one in enumerate(STABLE)]
        shape = ended(held(), *pods, TRIED)
        assert shape is not None
        assert shape.rolling_update == {"maxSurge": 1, "maxUnavailable": unavailable}


def test_an_end_lasts_until_no_pod_of_the_trial_is_left_and_the_deployment_says_so() -> None:
    over = held(template=S, min_ready_seconds=0, replicas=2, updated_replicas=2)
    assert ended(over, *STABLE, TRIED) is not None
    assert ended(replace(over, replicas=3), *STABLE) is not None
    assert ended(replace(over, observed_generation=0), *STABLE) is not None
    assert ended(over, *STABLE) is None
    assert ended(over, *STABLE, replace(TRIED, deleting=True)) is None


def test_a_template_that_somebody_else_changed_is_rolled_out_as_any_other() -> None:
    assert ended(held(surroundings="others"), *STABLE, TRIED) is None


# Whatever is seen and asked for


WANTED = (
    Wanted(),
    Wanted(Wants.STABLE, TRIAL.name),
    Wanted(Wants.TRIAL, TRIAL.name),
    Wanted(Wants.TRIAL, "another"),
    Wanted(Wants.TRIAL, candidate=CANDIDATE),
    Wanted(Wants.PROMOTED, TRIAL.name),
)
PAUSED = make_server(replicas=2, autotune={"mode": "Auto"}, paused=True)
UNREADABLE = make_server(replicas=2)
SERVERS = (
    *(tuned_server(replicas) for replicas in (0, 1, 2, 4)),
    tuned_server(disruption="Allow"),
    tuned_server(mode="Recommend"),
    make_server(replicas=2, autotune={"mode": "Auto"}, engine={"maxNumSeqs": 8}),
    PAUSED,
    UNREADABLE,
)
DEPLOYMENTS = (
    None,
    CALM,
    held(),
    held(replace(MARK, in_place=MARK.began)),
    held(template=S, min_ready_seconds=0, updated_replicas=2),
    held(surroundings="others"),
    held(replace(MARK, trial="another")),
    held(spec_replicas=3),
)
PODS = ([], STABLE, [*STABLE, TRIED], [*STABLE, WAITS], [STABLE[0], TRIED])


def worlds() -> Iterator[World]:
    trouble = (Problem(field="spec", reason="r", message="m"),)
    for server, deployment, pods, wanted in product(SERVERS, DEPLOYMENTS, PODS, WANTED):
        seconds = 3600 if WAITS in pods else 60
        yield World(
            server=server,
            unreadable=trouble if server is UNREADABLE else (),
            revisions=WITH_TRIAL,
            remembered=Remembered.from_status(None),
            pods=pods,
            diagnosis=None,
            now=NOW + timedelta(seconds=seconds),
            deployment=deployment,
            wanted=wanted,
        )


def asks(world: World, trial: Trial) -> bool:
    """Whether somebody may and does ask for it to be held."""
    wanted, spec = world.wanted, world.server.spec
    named = wanted.trial == trial.name or (not wanted.trial and wanted.candidate is not None)
    auto = spec.autotune is not None and spec.autotune.mode == "Auto"
    free = auto and not spec.paused and not world.unreadable and spec.engine is None
    return free and named and wanted.wants is not Wants.STABLE


def test_what_nobody_asks_for_is_not_held_and_what_is_held_is_one_pod_whatever_is_seen() -> None:
    came = Counter[str]()
    for world in worlds():
        intent, deployment = intend(world).intent, world.deployment
        assert IN_FORCE is not None
        came[type(intent).__name__] += 1
        if isinstance(intent, Hold):
            assert asks(world, intent.trial)
            assert world.trial.end is None
            mark = world.trial.mark
            assert mark is not None
            assert deployment is not None
            assert stays_through(mark, deployment.spec_replicas, world.server.spec.replicas)
            assert world.server.spec.replicas > 0
            assert not mark.in_place or world.server.spec.autotune.disruption == "Allow"  # type: ignore[union-attr]
        elif isinstance(intent, BeginTrial):
            assert asks(world, TRIAL)
            assert world.obstacle is None
        elif isinstance(intent, Promote):
            assert asks(world, intent.trial)
            assert world.trial.serves
        elif deployment is not None and deployment.trial:
            shape = ending(world.trial, IN_FORCE, IN_FORCE, deployment, world.pods)
            came["ended" if shape else "over"] += 1
            if shape is None:
                others = deployment.surroundings == "others"
                gone = deployment.min_ready_seconds == 0 and not world.trial.pods
                assert others or gone
            else:
                assert shape.fields is LET_GO
                assert template_of([shape.workload]) == S
                assert shape.replicas == deployment.spec_replicas
    least = {"Hold": 50, "BeginTrial": 2, "Promote": 10, "ended": 500, "over": 100, "PlanAnew": 100}
    assert all(came[name] >= times for name, times in least.items()), came
