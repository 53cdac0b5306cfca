"""Surge or in place, decided from what is observed alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from support.builders import make_server
from support.observed import DEPLOYMENT, POD
from vllm_operator.lifecycle import rollout
from vllm_operator.lifecycle.records import ChildRecord, PodRecord
from vllm_operator.manifests.labels import IN_PLACE_SINCE, WOKEN
from vllm_operator.manifests.render import IN_PLACE, SURGE

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROLLING = replace(DEPLOYMENT, replicas=2, updated_replicas=1)
OLD = replace(POD, name="old", template_hash="old", template="1-old", ready=True)
NEW = replace(
    POD,
    name="new",
    template_hash="new",
    template="1-new",
    scheduled=False,
    unschedulable_since=(NOW - timedelta(seconds=30)).isoformat(),
    unschedulable_message="0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
)
SPEC = make_server().spec
TWO = make_server(replicas=2).spec
STAMP = "2026-01-01T12:00:00Z"
choose_strategy = partial(rollout.choose_strategy, template=NEW.template)


def test_a_rollout_starts_by_surging() -> None:
    assert choose_strategy(SPEC, ROLLING, [OLD], NOW).rolling_update == SURGE


def test_a_surge_pod_may_wait_for_its_timeout() -> None:
    strategy = choose_strategy(SPEC, ROLLING, [OLD, NEW], NOW)
    assert strategy.rolling_update == SURGE
    assert strategy.look_again == pytest.approx(90)


def test_a_surge_pod_that_waited_out_its_timeout_makes_the_rollout_go_on_in_place() -> None:
    later = NOW + timedelta(seconds=90)
    assert choose_strategy(SPEC, ROLLING, [OLD, NEW], later).rolling_update == IN_PLACE


@pytest.mark.parametrize(
    "message",
    [
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        'persistentvolumeclaim "typo" not found',
        "0/1 nodes are available: 1 node(s) had untolerated taint {a: b}.",
    ],
)
def test_a_pod_that_serves_is_not_ended_for_one_that_no_node_would_take(message: str) -> None:
    later = NOW + timedelta(hours=1)
    lost = replace(NEW, unschedulable_message=message)
    assert choose_strategy(SPEC, ROLLING, [OLD, lost], later).rolling_update == SURGE


def test_of_two_pods_that_wait_the_one_that_waits_longer_decides() -> None:
    younger = replace(NEW, name="younger", unschedulable_since=NOW.isoformat())
    since = rollout.held_up_since(ROLLING, NEW.template, "", [OLD, younger, NEW])
    assert since == datetime.fromisoformat(str(NEW.unschedulable_since))


def test_the_surge_timeout_is_two_minutes_unless_it_is_given() -> None:
    since = datetime.fromisoformat(str(NEW.unschedulable_since))
    for spec, seconds in ((SPEC, 120), (make_server(rollout={"surgeTimeoutSeconds": 7}).spec, 7)):
        first, last = (since + timedelta(seconds=seconds - left) for left in (1, 0))
        early = choose_strategy(spec, ROLLING, [OLD, NEW], first)
        assert (early.rolling_update, early.look_again) == (SURGE, 1.0)
        assert choose_strategy(spec, ROLLING, [OLD, NEW], last).rolling_update == IN_PLACE


def test_a_rollout_that_went_in_place_stays_so_until_it_is_over() -> None:
    chosen = choose_strategy(SPEC, replaced(1, 1), [OLD], NOW)
    assert chosen.rolling_update == IN_PLACE
    assert chosen.marks == {IN_PLACE_SINCE: replaced(1, 1).replaced_in_place}


def test_a_rollout_of_another_plan_begins_by_surging_again() -> None:
    later = (NOW + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    chosen = choose_strategy(SPEC, replaced(1, 1), [OLD], NOW, planned_at=later)
    assert (chosen.rolling_update, chosen.marks) == (SURGE, {})


@pytest.mark.parametrize("seconds", [-1, 0])
def test_a_rollout_that_went_in_place_in_or_after_the_second_of_its_plan_is_that_plan_s(
    seconds: int,
) -> None:
    planned_at = (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    chosen = choose_strategy(SPEC, replaced(1, 1), [OLD], NOW, planned_at=planned_at)
    assert chosen.rolling_update == IN_PLACE


def test_the_strategy_returns_to_surging_when_nothing_rolls() -> None:
    settled = replace(DEPLOYMENT, in_place=True)
    assert choose_strategy(SPEC, settled, [OLD], NOW).rolling_update == SURGE


def test_a_first_pod_that_finds_no_gpu_is_no_surge_pod() -> None:
    starting = replace(DEPLOYMENT, replicas=1, updated_replicas=1, observed_generation=0)
    later = NOW + timedelta(hours=1)
    assert choose_strategy(SPEC, starting, [NEW], later).rolling_update == SURGE


def test_a_pod_that_is_going_away_holds_nothing_up() -> None:
    going = replace(NEW, deleting=True)
    later = NOW + timedelta(hours=1)
    assert choose_strategy(SPEC, ROLLING, [OLD, going], later).rolling_update == SURGE


@pytest.mark.parametrize(("wanted", "expected"), [("Surge", SURGE), ("InPlace", IN_PLACE)])
def test_a_strategy_that_is_asked_for_is_used(wanted: str, expected: dict[str, int]) -> None:
    spec = make_server(rollout={"strategy": wanted}).spec
    later = NOW + timedelta(hours=1)
    assert choose_strategy(spec, ROLLING, [OLD, NEW], later).rolling_update == expected


def replaced(placed: int, replicas: int, **facts: Any) -> ChildRecord:
    """A rollout that went in place when so many of the replicas had a node."""
    mark = f"{placed}/{replicas} {STAMP}"
    common = {"spec_replicas": 2, "replicas": 2, "updated_replicas": 1, "in_place": True}
    return replace(DEPLOYMENT, **{**common, "replaced_in_place": mark, **facts})


def test_in_place_a_replica_that_had_no_gpu_before_does_not_stop_the_others() -> None:
    chosen = choose_strategy(TWO, replaced(1, 2), [OLD, NEW], NOW)
    assert chosen.rolling_update == {"maxSurge": 0, "maxUnavailable": 2}


def test_a_pod_that_waits_although_an_old_one_ended_for_it_ends_no_other() -> None:
    chosen = choose_strategy(TWO, replaced(2, 2), [OLD, NEW], NOW + timedelta(hours=1))
    assert chosen.rolling_update == IN_PLACE


@pytest.mark.parametrize(("replicas", "most"), [(1, 1), (2, 1), (3, 1), (5, 3), (9, 3)])
def test_scaling_in_a_rollout_ends_no_pod_that_had_a_node(replicas: int, most: int) -> None:
    spec = make_server(replicas=replicas).spec
    chosen = choose_strategy(spec, replaced(3, 5), [OLD, NEW], NOW)
    assert chosen.rolling_update["maxUnavailable"] == most


def test_how_many_had_a_node_is_written_down_when_a_rollout_goes_in_place() -> None:
    later = NOW + timedelta(seconds=90)
    pods = [OLD, replace(OLD, name="worker", leads=False), replace(OLD, deleting=True), NEW]
    rolling = replace(ROLLING, spec_replicas=3, replicas=4)
    chosen = choose_strategy(make_server(replicas=3).spec, rolling, pods, later)
    assert chosen.marks == {IN_PLACE_SINCE: "1/3 2026-01-01T12:01:30Z"}
    assert chosen.rolling_update["maxUnavailable"] == 3


@pytest.mark.parametrize(("strategy", "may_surge"), [("Auto", False), ("InPlace", True)])
def test_in_place_as_asked_for_ends_one_pod_at_a_time(strategy: str, may_surge: bool) -> None:
    spec = make_server(replicas=2, rollout={"strategy": strategy}).spec
    lost = replace(NEW, unschedulable_message="1 node(s) didn't match Pod's node affinity.")
    two = replace(DEPLOYMENT, spec_replicas=2, replicas=2, updated_replicas=1, in_place=True)
    chosen = choose_strategy(spec, two, [OLD, lost], NOW, may_surge=may_surge)
    assert chosen.rolling_update == IN_PLACE


def test_a_waiting_pod_of_another_plan_changes_neither_the_strategy_nor_max_unavailable() -> None:
    later = NOW + timedelta(hours=1)
    other = replace(NEW, name="other", template_hash="other", template="1-other")
    chosen = choose_strategy(SPEC, ROLLING, [OLD, other], later)
    assert (chosen.rolling_update, chosen.look_again) == (SURGE, None)
    assert choose_strategy(TWO, replaced(2, 2), [OLD, other], later).rolling_update == IN_PLACE
    assert not retired(replace(DEPLOYMENT, ready_replicas=0), OLD, other).now


def test_a_scheduler_that_fails_ends_no_pod() -> None:
    failed = replace(NEW, scheduler_failed=True, unschedulable_message="connection refused")
    later = NOW + timedelta(hours=1)
    assert choose_strategy(SPEC, ROLLING, [OLD, failed], later).rolling_update == SURGE


def test_a_restarted_rollout_goes_in_place_where_pods_of_the_same_plan_hold_the_gpus() -> None:
    later = NOW + timedelta(hours=1)
    same = replace(OLD, template=NEW.template)
    assert choose_strategy(SPEC, ROLLING, [same, NEW], later).rolling_update == IN_PLACE


def test_a_volume_of_one_node_rolls_in_place_whatever_is_asked_for() -> None:
    for strategy in ("Auto", "Surge", "InPlace"):
        spec = make_server(rollout={"strategy": strategy}).spec
        chosen = choose_strategy(spec, None, [], NOW, may_surge=False)
        assert chosen.rolling_update == IN_PLACE
        assert chosen.look_again is None


def retired(successor: ChildRecord | None, *pods: PodRecord, **given: Any) -> Any:
    spec = make_server(rollout=given).spec
    return rollout.may_retire(spec, successor, pods, NOW, template=NEW.template, may_surge=True)


def test_an_old_workload_serves_until_its_successor_does() -> None:
    assert not retired(None).now
    assert not retired(replace(DEPLOYMENT, ready_replicas=0)).now
    assert retired(DEPLOYMENT).now


def test_an_old_workload_goes_first_where_there_is_no_room_for_both() -> None:
    starting = replace(DEPLOYMENT, ready_replicas=0)
    waits = replace(NEW, unschedulable_since=(NOW - timedelta(seconds=50)).isoformat())
    early = retired(starting, OLD, waits)
    assert (early.now, early.look_again) == (False, 70.0)
    assert retired(starting, OLD, waits, surgeTimeoutSeconds=50).now
    assert not retired(starting, OLD, waits, strategy="Surge", surgeTimeoutSeconds=50).now
    assert retired(starting, OLD, strategy="InPlace").now


QUOTA = 'pods "q" is forbidden: exceeded quota: g, requested: g=1, used: g=2, limited: g=2'
WEBHOOK = 'admission webhook "w" denied the request: no'


def refused(message: str = QUOTA, seconds: float = 30, **facts: Any) -> ChildRecord:
    """A rollout of two replicas beside which no pod can be made."""
    since = (NOW - timedelta(seconds=seconds)).isoformat()
    common = {"spec_replicas": 2, "replicas": 2, "updated_replicas": 0, "ready_replicas": 2}
    return replace(DEPLOYMENT, **{**common, "message": message, "refused_since": since, **facts})


OLDS = [OLD, replace(OLD, name="old-2", uid="old-2")]
SURGES = make_server(replicas=2, rollout={"strategy": "Surge"}).spec


def test_a_pod_that_a_quota_refuses_may_wait_for_the_surge_timeout() -> None:
    waits = choose_strategy(TWO, woken(refused(seconds=100)), OLDS, NOW)
    assert (waits.rolling_update, waits.look_again) == (SURGE, 20.0)
    assert choose_strategy(TWO, refused(seconds=120), OLDS, NOW).rolling_update == IN_PLACE


def test_a_pod_that_a_webhook_refuses_ends_none_that_serves() -> None:
    strategy = choose_strategy(SPEC, refused(WEBHOOK, 9000), OLDS, NOW)
    assert (strategy.rolling_update, strategy.look_again) == (SURGE, None)


def test_a_refusal_that_is_older_than_the_plan_is_counted_from_the_plan_on() -> None:
    planned_at = (NOW - timedelta(seconds=10)).isoformat()
    told = woken(refused(seconds=900), times=3)
    strategy = choose_strategy(TWO, told, OLDS, NOW, planned_at=planned_at)
    assert (strategy.rolling_update, strategy.look_again) == (SURGE, 110.0)


def test_a_refusal_that_the_deployment_s_controller_has_not_looked_at_yet_does_not_count() -> None:
    lags = refused(seconds=900, generation=2, observed_generation=1)
    assert choose_strategy(SPEC, lags, OLDS, NOW).rolling_update == SURGE


def test_a_replica_more_than_the_quota_holds_is_no_reason_to_end_another_one() -> None:
    scaled = refused(seconds=900, spec_replicas=3, updated_replicas=2)
    assert choose_strategy(SPEC, scaled, OLDS, NOW).rolling_update == SURGE


def woken(deployment: ChildRecord, times: int = 1) -> ChildRecord:
    """The Deployment after its ReplicaSet was woken so often for these pods, the last time now."""
    crowd = choose_strategy(SURGES, deployment, OLDS, NOW).marks[WOKEN].split()[0]
    return replace(deployment, woken=f"{crowd} {STAMP} {times}")


def test_a_replica_set_is_woken_whenever_other_pods_are_there() -> None:
    first = choose_strategy(TWO, refused(), OLDS, NOW).marks[WOKEN]
    again = replace(refused(), woken=first)
    later = NOW + timedelta(seconds=5)
    assert choose_strategy(TWO, again, OLDS, later).marks[WOKEN] == first
    assert choose_strategy(TWO, again, OLDS[:1], later).marks[WOKEN] != first


def test_a_replica_set_is_woken_three_times_for_the_same_pods() -> None:
    deployment, now, seen = refused(), NOW, []
    for _ in range(5):
        chosen = choose_strategy(SURGES, deployment, OLDS, now)
        seen.append(chosen.look_again)
        deployment = replace(deployment, woken=chosen.marks[WOKEN])
        now += timedelta(seconds=30)
    assert deployment.woken.endswith(" 2026-01-01T12:01:00Z 3")
    assert seen == [30.0, 30.0, 30.0, None, None]


@pytest.mark.parametrize("found", ["", "x", "x y z", "a 2026-01-01T12:00:00Z"])
def test_a_mark_that_somebody_else_wrote_is_written_anew(found: str) -> None:
    mark = choose_strategy(SURGES, replace(refused(), woken=found), OLDS, NOW).marks[WOKEN]
    assert mark.endswith(f" {STAMP} 1")


def test_nothing_is_woken_for_what_no_end_of_a_pod_frees() -> None:
    assert choose_strategy(SURGES, refused(WEBHOOK), OLDS, NOW).marks == {}


def test_an_old_workload_goes_first_where_a_quota_has_no_room_for_both() -> None:
    starting = refused(seconds=50, replicas=0, ready_replicas=0)
    assert not retired(starting, OLD).now
    assert retired(starting, OLD, surgeTimeoutSeconds=50).now


@pytest.mark.parametrize("strategy", ["Auto", "Surge", "InPlace"])
def test_a_rollout_that_nobody_asked_for_takes_no_ready_pod_away_whatever_the_strategy(
    strategy: str,
) -> None:
    spec = make_server(replicas=2, rollout={"strategy": strategy}).spec
    later = NOW + timedelta(hours=1)
    chosen = choose_strategy(spec, ROLLING, [OLD, NEW], later, surges_only=True)
    assert chosen.rolling_update == SURGE


def test_on_the_way_back_pods_that_do_not_serve_may_go_first() -> None:
    dead = replace(OLD, name="dead", ready=False)
    chosen = choose_strategy(TWO, ROLLING, [OLD, dead, NEW], NOW, surges_only=True, dead_first=True)
    assert chosen.rolling_update == {"maxSurge": 1, "maxUnavailable": 1}


def test_once_no_pod_of_another_plan_is_left_the_strategy_is_the_one_asked_for() -> None:
    spec = make_server(rollout={"strategy": "InPlace"}).spec
    pods = [replace(OLD, template=NEW.template), replace(OLD, name="going", deleting=True)]
    chosen = choose_strategy(spec, DEPLOYMENT, pods, NOW, surges_only=True)
    assert chosen.rolling_update == IN_PLACE


LATER = NOW + timedelta(hours=1)
UNPREPARED = replace(
    NEW, scheduled=True, unschedulable_since=None, unprepared=True, started_at=NOW.isoformat()
)


def test_a_pod_that_waits_for_a_volume_of_an_old_one_makes_the_rollout_go_on_in_place() -> None:
    pods, held = [OLD, UNPREPARED], {"volume_holder": "pod(s) old"}
    early = choose_strategy(SPEC, ROLLING, pods, NOW, **held)
    assert (early.rolling_update, early.look_again) == (SURGE, 120.0)
    assert choose_strategy(SPEC, ROLLING, pods, LATER, **held).rolling_update == IN_PLACE


@pytest.mark.parametrize("holder", ["", "pod(s) somebody-else"])
def test_no_pod_is_ended_for_a_volume_that_is_not_its_own(holder: str) -> None:
    chosen = choose_strategy(SPEC, ROLLING, [OLD, UNPREPARED], LATER, volume_holder=holder)
    assert chosen.rolling_update == SURGE


def test_a_pod_that_has_its_volumes_by_now_ends_no_other_for_them() -> None:
    prepared = replace(UNPREPARED, unprepared=False)
    chosen = choose_strategy(SPEC, ROLLING, [OLD, prepared], LATER, volume_holder="pod(s) old")
    assert chosen.rolling_update == SURGE


@pytest.mark.parametrize("seconds", [10, 50])
def test_of_a_pod_that_waits_and_one_that_is_refused_the_longer_decides(seconds: int) -> None:
    since = rollout.held_up_since(refused(seconds=seconds), NEW.template, "", [OLD, NEW])
    assert since == NOW - timedelta(seconds=max(seconds, 30))  # NEW waits for 30 s
