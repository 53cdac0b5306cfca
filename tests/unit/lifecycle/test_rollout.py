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
    since = rollout.surge_waits_since(ROLLING, NEW.template, "", [OLD, younger, NEW])
    assert since == datetime.fromisoformat(str(NEW.unschedulable_since))


def test_the_surge_timeout_is_two_minutes_unless_it_is_given() -> None:
    since = datetime.fromisoformat(str(NEW.unschedulable_since))
    for spec, seconds in ((SPEC, 120), (make_server(rollout={"surgeTimeoutSeconds": 7}).spec, 7)):
        first, last = (since + timedelta(seconds=seconds - left) for left in (1, 0))
        early = choose_strategy(spec, ROLLING, [OLD, NEW], first)
        assert (early.rolling_update, early.look_again) == (SURGE, 1.0)
        assert choose_strategy(spec, ROLLING, [OLD, NEW], last).rolling_update == IN_PLACE


def test_a_rollout_that_went_in_place_stays_so_until_it_is_over() -> None:
    in_place = replace(ROLLING, in_place=True)
    assert choose_strategy(SPEC, in_place, [OLD], NOW).rolling_update == IN_PLACE


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


def test_in_place_a_pod_that_never_had_a_gpu_does_not_stop_the_others() -> None:
    two = replace(DEPLOYMENT, spec_replicas=2, replicas=2, updated_replicas=1, in_place=True)
    strategy = choose_strategy(SPEC, two, [OLD, NEW], NOW)
    assert strategy.rolling_update == {"maxSurge": 0, "maxUnavailable": 2}


def test_in_place_nothing_more_is_taken_down_while_a_pod_loads() -> None:
    two = replace(DEPLOYMENT, spec_replicas=2, replicas=2, updated_replicas=1, in_place=True)
    loading = replace(NEW, name="loading", scheduled=True, unschedulable_since=None, ready=False)
    assert choose_strategy(SPEC, two, [OLD, NEW, loading], NOW).rolling_update == IN_PLACE


def test_a_waiting_pod_of_another_plan_changes_neither_the_strategy_nor_max_unavailable() -> None:
    later = NOW + timedelta(hours=1)
    other = replace(NEW, name="other", template_hash="other", template="1-other")
    chosen = choose_strategy(SPEC, ROLLING, [OLD, other], later)
    assert (chosen.rolling_update, chosen.look_again) == (SURGE, None)
    two = replace(DEPLOYMENT, spec_replicas=2, replicas=2, updated_replicas=1, in_place=True)
    assert choose_strategy(SPEC, two, [OLD, other], later).rolling_update == IN_PLACE
    assert not retired(replace(DEPLOYMENT, ready_replicas=0), OLD, other).now


def test_a_crash_of_another_plan_s_pod_does_not_keep_a_replica_without_a_gpu_waiting() -> None:
    two = replace(DEPLOYMENT, spec_replicas=2, replicas=2, updated_replicas=1, in_place=True)
    crashes = replace(OLD, ready=False, waiting_reason="CrashLoopBackOff")
    chosen = choose_strategy(SPEC, two, [crashes, NEW], NOW)
    assert chosen.rolling_update == {"maxSurge": 0, "maxUnavailable": 2}


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


def test_a_pod_that_a_quota_refuses_may_wait_for_the_surge_timeout() -> None:
    strategy = choose_strategy(SPEC, refused(), OLDS, NOW)
    assert (strategy.rolling_update, strategy.look_again) == (SURGE, 90.0)
    assert choose_strategy(SPEC, refused(seconds=120), OLDS, NOW).rolling_update == IN_PLACE


def test_a_pod_that_a_webhook_refuses_ends_none_that_serves() -> None:
    strategy = choose_strategy(SPEC, refused(WEBHOOK, 9000), OLDS, NOW)
    assert (strategy.rolling_update, strategy.look_again) == (SURGE, None)


def test_a_refusal_that_is_older_than_the_plan_is_counted_from_the_plan_on() -> None:
    planned_at = (NOW - timedelta(seconds=10)).isoformat()
    strategy = choose_strategy(SPEC, refused(seconds=900), OLDS, NOW, planned_at=planned_at)
    assert (strategy.rolling_update, strategy.look_again) == (SURGE, 110.0)


def test_a_refusal_that_the_deployment_s_controller_has_not_looked_at_yet_does_not_count() -> None:
    lags = refused(seconds=900, generation=2, observed_generation=1)
    assert choose_strategy(SPEC, lags, OLDS, NOW).rolling_update == SURGE


def test_a_replica_more_than_the_quota_holds_is_no_reason_to_end_another_one() -> None:
    scaled = refused(seconds=900, spec_replicas=3, updated_replicas=2)
    assert choose_strategy(SPEC, scaled, OLDS, NOW).rolling_update == SURGE


def test_a_replica_set_is_woken_each_time_that_a_pod_has_gone() -> None:
    first = choose_strategy(SPEC, refused(in_place=True), OLDS, NOW).woken
    assert first is not None
    later = NOW + timedelta(seconds=5)
    again = choose_strategy(SPEC, refused(in_place=True, woken=first), OLDS, later).woken
    assert again == first
    gone = choose_strategy(SPEC, refused(in_place=True, woken=first), OLDS[:1], later).woken
    assert gone not in (None, first)


def test_what_woke_a_replica_set_stays_until_the_rollout_is_over() -> None:
    rolling = refused("", in_place=True, woken="mark 2026-01-01T12:00:00Z")
    assert choose_strategy(SPEC, rolling, OLDS, NOW).woken == rolling.woken
    settled = replace(DEPLOYMENT, in_place=True, woken=rolling.woken)
    assert choose_strategy(SPEC, settled, [OLD], NOW).woken is None


def test_in_place_replicas_that_a_quota_never_had_room_for_do_not_stop_the_others() -> None:
    first = choose_strategy(SPEC, refused(spec_replicas=3, in_place=True), OLDS, NOW)
    assert (first.rolling_update, first.look_again) == (IN_PLACE, 30.0)
    woken = refused(spec_replicas=3, in_place=True, woken=first.woken)
    later = choose_strategy(SPEC, woken, OLDS, NOW + timedelta(seconds=30))
    assert later.rolling_update == {"maxSurge": 0, "maxUnavailable": 2}


def test_in_place_a_pod_that_is_about_to_be_made_is_not_counted_as_refused() -> None:
    woken = choose_strategy(SPEC, refused(in_place=True), OLDS, NOW).woken
    one_went = refused(in_place=True, replicas=1, woken=woken)
    later = NOW + timedelta(minutes=10)
    assert choose_strategy(SPEC, one_went, OLDS[:1], later).rolling_update == IN_PLACE
