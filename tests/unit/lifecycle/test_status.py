"""The status that is folded from what was seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from support.builders import make_plan, make_server
from support.observed import DEPLOYMENT, NOW, POD
from vllm_operator.api.plan import Problem
from vllm_operator.lifecycle.gpus import GPUCount
from vllm_operator.lifecycle.notes import Note, event, steps, warnings
from vllm_operator.lifecycle.progress import Observed
from vllm_operator.lifecycle.records import PodRecord
from vllm_operator.lifecycle.recovery import Trouble
from vllm_operator.lifecycle.remembered import Remembered
from vllm_operator.lifecycle.revisions import Abandoned
from vllm_operator.lifecycle.status import fold, server_state, summary

PROBLEM = Problem(field="spec.gpu.product", reason="UnknownGPU", message="no such GPU")
READY = Observed(
    problems=(),
    waits=False,
    plan=make_plan(),
    planned=True,
    update=None,
    deployment=DEPLOYMENT,
    pods=(),
)
SERVING = replace(READY, pods=(replace(POD, ready=True),))
STARTING = replace(READY, deployment=replace(DEPLOYMENT, ready_replicas=0), pods=(POD,))


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


def folded(observed: Observed, previous: dict[str, Any] | None = None, **spec: Any) -> Any:
    seen = fold(make_server(**spec), Remembered.from_status(previous), observed, NOW)
    return SimpleNamespace(status=seen.status.to_json_object(), look_again=seen.look_again)


def warned(before: dict[str, Any], after: dict[str, Any]) -> list[Note]:
    return warnings(*(Remembered.from_status(one).status.conditions for one in (before, after)))


def state_of(status: dict[str, Any]) -> str:
    return server_state(Remembered.from_status(status).status)


def test_a_served_plan_is_ready_settled_and_neither_reconciling_nor_stalled() -> None:
    assert conditions(folded(READY).status) == {
        "Planned": ("True", "Sized"),
        "Progressing": ("False", "Settled"),
        "Available": ("True", "ReplicasReady"),
        "UpdateAvailable": ("False", "UpToDate"),
        "Reconciling": ("False", "Settled"),
        "Stalled": ("False", "Progressing"),
        "Ready": ("True", "Ready"),
    }


def test_the_same_sight_folds_to_the_same_status() -> None:
    first = folded(READY).status
    hour = NOW + timedelta(hours=1)
    again = fold(make_server(), Remembered.from_status(first), READY, hour)
    later = again.status.to_json_object()
    assert later == first


def test_every_condition_is_there_from_the_first_visit_on() -> None:
    nothing = Observed((PROBLEM,), False, None, False, None, None, ())
    assert set(conditions(folded(nothing).status)) == set(conditions(folded(READY).status))


def test_a_problem_stops_a_server_that_never_ran() -> None:
    status = folded(Observed((PROBLEM,), False, None, False, None, None, ())).status
    seen = conditions(status)
    assert seen["Planned"] == ("False", "UnknownGPU")
    assert seen["Stalled"] == ("True", "NotPlanned")
    assert seen["Ready"] == ("False", "UnknownGPU")
    assert status["problems"] == [PROBLEM.to_json_object()]


def test_a_problem_that_may_pass_is_waiting_and_not_failing() -> None:
    seen = conditions(folded(Observed((PROBLEM,), True, None, False, None, None, ())).status)
    assert seen["Stalled"][0] == "False"
    assert seen["Reconciling"][0] == "True"


def test_an_invalid_edit_keeps_the_plan_in_force_and_the_server_available() -> None:
    status = folded(replace(READY, problems=(PROBLEM,))).status
    seen = conditions(status)
    assert seen["Available"] == ("True", "ReplicasReady")
    assert seen["Ready"] == ("False", "UnknownGPU")
    assert status["plan"]["name"] == "qwen"


def test_a_pod_that_loads_for_long_is_loading() -> None:
    old = replace(POD, started_at=(NOW - timedelta(minutes=1)).isoformat())
    assert conditions(folded(replace(STARTING, pods=(old,))).status)["Progressing"] == (
        "True",
        "Loading",
    )


LONG_AGO = (NOW - timedelta(minutes=1)).isoformat()


def test_a_pod_whose_engine_does_not_run_yet_is_not_loading_and_says_what_it_waits_for() -> None:
    pulls = replace(POD, started_at=LONG_AGO, waits_for="its image")
    status = folded(replace(STARTING, pods=(pulls,))).status
    assert conditions(status)["Progressing"] == ("True", "Preparing")
    assert conditions(status)["Ready"] == ("False", "Preparing")
    assert said(status) == "1 of 1 replicas updated, 0 ready; 1 waiting for its image"


def test_pods_that_wait_for_several_things_are_counted_by_them() -> None:
    loads = replace(POD, started_at=LONG_AGO)
    waits = replace(loads, waits_for="init container fetch")
    status = folded(replace(STARTING, pods=(waits, loads, waits)), replicas=3).status
    assert conditions(status)["Progressing"] == ("True", "Loading")
    assert said(status).endswith("1 loading the model, 2 waiting for init container fetch")


def test_a_pod_that_a_queue_holds_is_said_to_be_gated() -> None:
    gates = "the removal of the scheduling gates kueue.x-k8s.io/admission"
    held = replace(
        POD,
        scheduled=False,
        started_at=None,
        unschedulable_since=NOW.isoformat(),
        unschedulable_message="Scheduling is blocked due to non-empty scheduling gates",
        waits_for=gates,
    )
    status = folded(replace(STARTING, pods=(held,))).status
    assert conditions(status)["Progressing"] == ("True", "SchedulingGated")
    assert said(status) == (
        f"a pod waits for {gates}; whoever set them, such as a queue, removes them"
    )


def test_a_pod_that_no_scheduler_looks_at_is_told_after_a_moment() -> None:
    waits = "the scheduler volcano to look at it"
    lost = replace(POD, scheduled=False, started_at=None, waits_for=waits, created_at=LONG_AGO)
    assert said(folded(replace(STARTING, pods=(lost,))).status).endswith(f"1 waiting for {waits}")


def test_a_rollout_past_its_deadline_says_what_its_pods_wait_for() -> None:
    late = replace(DEPLOYMENT, ready_replicas=0, deadline_exceeded=True)
    waits = replace(POD, waits_for="its volumes and its network")
    status = folded(replace(STARTING, deployment=late, pods=(waits,))).status
    assert conditions(status)["Progressing"] == ("False", "RolloutStuck")
    assert said(status).endswith("1 waiting for its volumes and its network")


def test_a_pod_that_just_started_is_looked_at_again_before_it_is_called_loading() -> None:
    result = folded(STARTING)
    assert conditions(result.status)["Progressing"] == ("True", "RollingOut")
    assert result.look_again == pytest.approx(5.0)


def test_an_unschedulable_pod_waits_for_a_gpu_with_the_scheduler_s_words() -> None:
    pod = replace(
        POD,
        scheduled=False,
        unschedulable_since=NOW.isoformat(),
        unschedulable_message="0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    )
    status = folded(replace(STARTING, pods=(pod,))).status
    assert conditions(status)["Progressing"] == ("True", "WaitingForGPU")
    (progressing,) = [c for c in status["conditions"] if c["type"] == "Progressing"]
    assert "3 Insufficient nvidia.com/gpu" in progressing["message"]


def test_a_rollout_past_its_deadline_is_stalled_and_says_what_the_pod_says() -> None:
    pod = replace(POD, waiting_reason="CrashLoopBackOff", restarts=3, last_exit="last exit code 1")
    stuck = replace(
        STARTING, deployment=replace(DEPLOYMENT, ready_replicas=0, deadline_exceeded=True)
    )
    status = folded(replace(stuck, pods=(pod,))).status
    assert conditions(status)["Stalled"] == ("True", "RolloutStuck")
    assert conditions(status)["Ready"] == ("False", "RolloutStuck")
    assert "last exit code 1" in said(status, "Ready")


def test_of_what_a_waiting_pod_says_the_last_400_characters_are_told() -> None:
    late = replace(DEPLOYMENT, ready_replicas=0, deadline_exceeded=True)
    said = "a" * 100 + "b" * 400
    waits = replace(POD, waiting_reason="ImagePullBackOff", waiting_message=said)
    status = folded(replace(READY, deployment=late, pods=(waits,))).status
    message = next(c["message"] for c in status["conditions"] if c["type"] == "Progressing")
    assert message.endswith(f"a pod is in ImagePullBackOff ({'b' * 400})")


def test_a_server_scaled_to_zero_is_ready_and_not_available() -> None:
    gone = replace(DEPLOYMENT, spec_replicas=0, replicas=0, updated_replicas=0, ready_replicas=0)
    seen = conditions(folded(replace(READY, deployment=gone), replicas=0).status)
    assert seen["Available"] == ("False", "ScaledToZero")
    assert seen["Ready"] == ("True", "ScaledToZero")


def test_a_foreign_bump_of_the_deployment_s_generation_unsettles_nothing() -> None:
    first = folded(SERVING).status
    bumped = replace(DEPLOYMENT, generation=2)
    assert folded(replace(SERVING, deployment=bumped), previous=first).status == first


def test_a_replan_is_not_ready_in_the_status_that_calls_it_up_to_date() -> None:
    before = folded(replace(SERVING, update="image: old -> new")).status
    rolled = replace(SERVING, deployment=replace(DEPLOYMENT, generation=2), pods=())
    seen = conditions(folded(rolled, previous=before).status)
    assert seen["UpdateAvailable"] == ("False", "UpToDate")
    assert seen["Ready"] == ("False", "RollingOut")


def test_a_deployment_that_has_not_seen_our_edit_yet_is_rolling() -> None:
    first = folded(READY).status
    first["conditions"] = [{**c, "observedGeneration": 0} for c in first["conditions"]]
    bumped = replace(DEPLOYMENT, generation=2)
    seen = conditions(folded(replace(READY, deployment=bumped), previous=first).status)
    assert seen["Progressing"] == ("True", "RollingOut")


def test_several_conditions_that_change_at_once_all_change() -> None:
    before = folded(READY).status
    after = conditions(folded(replace(READY, problems=(PROBLEM,)), previous=before).status)
    assert after["Planned"][0] == "False"
    assert after["Stalled"][0] == "True"
    assert after["Ready"][0] == "False"


def test_an_update_says_how_to_take_it() -> None:
    status = folded(replace(READY, update="GPUs: 4 x L4 -> 1 x H100")).status
    (update,) = [c for c in status["conditions"] if c["type"] == "UpdateAvailable"]
    assert update["status"] == "True"
    assert "1 x H100" in update["message"]
    assert "vllm-operator.io/replan" in update["message"]


def test_a_long_message_is_cut_to_the_schema_s_bound() -> None:
    long = PROBLEM.model_copy(update={"message": "x" * 5000})
    status = folded(Observed((long,), False, None, False, None, None, ())).status
    assert max(len(c["message"]) for c in status["conditions"]) == 1024


@pytest.mark.parametrize(
    ("observed", "spec", "state"),
    [
        (READY, {}, "Ready"),
        (STARTING, {}, "Progressing"),
        (replace(READY, problems=(PROBLEM,)), {}, "NotPlanned"),
        (READY, {"paused": True}, "Paused"),
        (replace(READY, deployment=None), {"replicas": 0}, "ScaledToZero"),
    ],
)
def test_the_metrics_give_a_server_one_state(
    observed: Observed, spec: dict[str, Any], state: str
) -> None:
    assert state_of(folded(observed, **spec).status) == state


def test_a_server_that_is_paused_before_it_was_planned_says_so() -> None:
    seen = conditions(folded(Observed((), False, None, False, None, None, ()), paused=True).status)
    assert seen["Planned"] == ("Unknown", "Paused")
    assert seen["Ready"][0] == "False"


def test_a_paused_server_that_does_not_serve_with_every_replica_is_not_ready() -> None:
    two = replace(READY, deployment=replace(DEPLOYMENT, spec_replicas=2, ready_replicas=1))
    seen = conditions(folded(two, paused=True, replicas=2).status)
    assert seen["Ready"] == ("False", "Paused")
    assert conditions(folded(READY, paused=True).status)["Ready"] == ("True", "Ready")


def test_an_edit_that_mends_a_stuck_rollout_is_not_stalled_before_kubernetes_has_seen_it() -> None:
    late = replace(DEPLOYMENT, ready_replicas=0, deadline_exceeded=True)
    stuck = replace(READY, deployment=late)
    assert conditions(folded(stuck).status)["Stalled"] == ("True", "RolloutStuck")
    mended = replace(stuck, deployment=replace(late, generation=2, observed_generation=1))
    seen = conditions(folded(mended).status)
    assert seen["Progressing"] == ("True", "RollingOut")
    assert seen["Stalled"] == ("False", "Progressing")


def test_a_failure_that_may_pass_is_not_late_by_the_deadline_of_the_rollout_before() -> None:
    late = replace(DEPLOYMENT, ready_replicas=0, deadline_exceeded=True)
    failing = replace(READY, deployment=late, trouble=Trouble("HubUnreachable", "away", False))
    assert conditions(folded(failing).status)["Progressing"][0] == "False"
    mended = replace(failing, deployment=replace(late, generation=2, observed_generation=1))
    assert conditions(folded(mended).status)["Progressing"][0] == "True"


def test_a_paused_server_is_not_on_its_way() -> None:
    seen = conditions(folded(Observed((), False, None, False, None, None, ()), paused=True).status)
    assert seen["Reconciling"] == ("False", "Settled")


def test_a_pod_that_lacks_something_else_than_a_gpu_is_unschedulable() -> None:
    pod = replace(
        POD,
        scheduled=False,
        unschedulable_since=NOW.isoformat(),
        unschedulable_message="0/3 nodes are available: 3 Insufficient cpu.",
    )
    seen = conditions(folded(replace(STARTING, pods=(pod,))).status)
    assert seen["Progressing"] == ("True", "Unschedulable")


STOPPED = replace(STARTING, trouble=Trouble("KVCacheTooSmall", "too small; lower it", True))
WAITING = replace(STARTING, trouble=Trouble("SecretMissing", "no Secret; create it", False))


def test_a_failure_that_an_edit_must_mend_is_in_every_condition_that_it_stops() -> None:
    status = folded(STOPPED).status
    seen = conditions(status)
    assert seen["Progressing"] == ("False", "KVCacheTooSmall")
    assert seen["Available"] == ("False", "KVCacheTooSmall")
    assert seen["Stalled"] == ("True", "KVCacheTooSmall")
    assert seen["Ready"] == ("False", "KVCacheTooSmall")
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert "too small; lower it" in ready["message"]


def test_a_failure_that_may_pass_is_waited_for_until_the_deadline() -> None:
    seen = conditions(folded(WAITING).status)
    assert seen["Progressing"] == ("True", "SecretMissing")
    assert seen["Reconciling"][0] == "True"
    assert seen["Stalled"][0] == "False"
    late = replace(DEPLOYMENT, ready_replicas=0, deadline_exceeded=True)
    assert conditions(folded(replace(WAITING, deployment=late)).status)["Stalled"] == (
        "True",
        "SecretMissing",
    )


def test_a_failing_replica_beside_one_that_serves_keeps_the_server_available() -> None:
    deployment = replace(DEPLOYMENT, spec_replicas=2, replicas=2, updated_replicas=2)
    status = folded(replace(STOPPED, deployment=deployment), replicas=2).status
    assert conditions(status)["Available"] == ("True", "SomeReplicasReady")
    assert said(status, "Available").endswith("the condition Progressing says why")


def test_a_failure_is_told_by_one_event_and_never_again_while_it_lasts() -> None:
    first = folded(WAITING).status
    assert [note[1] for note in warned({}, first)] == ["SecretMissing"]
    stalled = folded(replace(WAITING, trouble=Trouble("SecretMissing", "no Secret", True))).status
    assert warned(first, stalled) == []


def test_a_failure_that_is_over_is_told_again_when_it_returns() -> None:
    failing, well = folded(STOPPED).status, folded(READY).status
    assert warned(failing, well) == []
    assert [note[1] for note in warned(well, failing)] == ["KVCacheTooSmall"]


CHANGE = "spec.engine.maxNumSeqs: 256 -> 128"
REPLACING = replace(
    READY, change=CHANGE, deployment=replace(DEPLOYMENT, replicas=2, ready_replicas=1)
)


def said(status: dict[str, Any], kind: str = "Progressing") -> str:
    return next(str(c["message"]) for c in status["conditions"] if c["type"] == kind)


def test_pods_that_are_replaced_are_so_because_of_a_change() -> None:
    assert said(folded(REPLACING).status).endswith(f"; because of {CHANGE}")


def test_the_reason_stays_until_the_last_new_pod_is_ready() -> None:
    begun = folded(REPLACING).status
    loading = replace(STARTING, change=CHANGE)
    assert CHANGE in said(folded(loading, begun).status)
    assert said(folded(replace(READY, change=CHANGE), begun).status) == (
        "1 of 1 replicas are up to date"
    )


def test_a_scaling_is_not_because_of_the_change_before_it() -> None:
    settled = folded(READY).status
    scaling = replace(
        READY,
        change=CHANGE,
        deployment=replace(
            DEPLOYMENT, spec_replicas=3, replicas=3, updated_replicas=3, ready_replicas=1
        ),
    )
    assert CHANGE not in said(folded(scaling, settled, replicas=3).status)


def test_a_replica_that_waits_for_gpus_says_how_many_are_seen() -> None:
    waiting = replace(
        POD,
        scheduled=False,
        unschedulable_since=NOW.isoformat(),
        unschedulable_message="0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
    )
    observed = replace(STARTING, pods=(waiting,), gpus=GPUCount(offered=16, nodes=2, held=15))
    assert said(folded(observed).status) == (
        "the scheduler finds no node with 2 free NVIDIA-H100-80GB-HBM3 for a replica (2 nodes have "
        "16, model servers that this operator sees hold 15): 0/2 nodes are available: 2 "
        "Insufficient nvidia.com/gpu."
    )


def test_another_scheduler_s_word_for_gpus_is_waiting_for_a_gpu_too() -> None:
    told = "All nodes are unavailable: 2 node(s) didn't have enough resource: GPUs. "
    waiting = replace(
        POD, scheduled=False, unschedulable_since=NOW.isoformat(), unschedulable_message=told
    )
    status = folded(replace(STARTING, pods=(waiting,))).status
    assert conditions(status)["Progressing"] == ("True", "WaitingForGPU")


def test_where_no_node_says_that_it_has_the_gpu_the_label_to_put_on_the_pool_is_named() -> None:
    told = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
    waiting = replace(
        POD, scheduled=False, unschedulable_since=NOW.isoformat(), unschedulable_message=told
    )
    observed = replace(STARTING, pods=(waiting,), gpus=GPUCount(offered=0, nodes=0, held=0))
    assert said(folded(observed).status).endswith(
        "; nodes that have it, and pools that are to bring them, need the label "
        "nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3"
    )


def test_an_engine_of_another_version_than_planned_is_said_once() -> None:
    said = replace(READY, engine_version="0.31.0+cu129")
    before = folded(READY).status
    after = folded(said, before).status
    planned = next(c for c in after["conditions"] if c["type"] == "Planned")
    assert (planned["status"], planned["reason"]) == ("True", "VersionDiffers")
    assert 'set spec.engine.version to "0.31.0"' in planned["message"]
    assert conditions(after)["Ready"] == ("True", "Ready")
    assert [note[:2] for note in warned(before, after)] == [("Warning", "VersionDiffers")]
    assert warned(after, folded(said, after).status) == []


def test_an_engine_of_the_planned_version_is_only_shown() -> None:
    status = folded(replace(READY, engine_version="0.30.0+cpu")).status
    assert conditions(status)["Planned"] == ("True", "Sized")
    assert status["engineVersion"] == "0.30.0+cpu"


def test_what_an_engine_said_is_kept_for_the_same_plan_and_forgotten_with_it() -> None:
    before = folded(replace(READY, engine_version="0.31.0")).status
    assert folded(READY, before).status["engineVersion"] == "0.31.0"
    another = replace(READY, plan=make_plan(inputsHash="another"))
    assert "engineVersion" not in folded(another, before).status


GIVEN_UP = Abandoned(
    make_server().spec, None, "OOMKilled", "too little memory; edit it", stopped=False
)
BACK = replace(
    READY,
    planned=False,
    abandoned=GIVEN_UP,
    problems=(Problem(field="spec", reason="OOMKilled", message=GIVEN_UP.message),),
)
NOTHING_RUNS = replace(
    READY,
    abandoned=replace(GIVEN_UP, stopped=True),
    deployment=replace(
        DEPLOYMENT, spec_replicas=0, replicas=0, updated_replicas=0, ready_replicas=0
    ),
)


def test_a_server_that_went_back_to_the_plan_before_serves_and_is_stalled_with_the_reason() -> None:
    found = conditions(folded(BACK).status)
    assert found["Planned"] == ("False", "OOMKilled")
    assert found["Progressing"] == ("False", "OOMKilled")
    assert found["Stalled"] == ("True", "OOMKilled")
    assert found["Ready"] == ("False", "OOMKilled")
    assert found["Available"] == ("True", "ReplicasReady")


def test_a_server_whose_pods_are_no_longer_started_says_why_everywhere() -> None:
    status = folded(NOTHING_RUNS).status
    found = conditions(status)
    assert found["Planned"] == ("True", "Sized")
    for kind in ("Progressing", "Available", "Ready"):
        assert found[kind] == ("False", "OOMKilled")
    assert found["Stalled"] == ("True", "OOMKilled")
    assert state_of(status) == "Stalled"


def test_a_stopped_server_that_is_scaled_to_zero_is_not_stalled() -> None:
    found = conditions(folded(NOTHING_RUNS, replicas=0).status)
    assert found["Ready"] == ("True", "ScaledToZero")
    assert found["Stalled"] == ("False", "Progressing")


def test_a_failure_is_told_once_however_the_conditions_go_on() -> None:
    before = folded(STARTING).status
    back = folded(BACK, before).status
    assert [note[1] for note in warned(before, back)] == ["OOMKilled"]
    rolling = folded(replace(BACK, deployment=replace(DEPLOYMENT, replicas=2)), back).status
    assert warned(back, rolling) == []
    assert warned(rolling, folded(BACK, rolling).status) == []


def test_an_engine_that_was_built_from_source_is_not_given_a_version_that_is_refused() -> None:
    planned = said(folded(replace(READY, engine_version="0.1.dev1+gabc")).status, "Planned")
    assert "set spec.engine.version to the release that it was built from" in planned


def test_a_pod_that_no_node_matches_by_the_user_s_own_selector_does_not_wait_for_a_gpu() -> None:
    told = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    waiting = replace(
        POD, scheduled=False, unschedulable_since=NOW.isoformat(), unschedulable_message=told
    )
    observed = replace(STARTING, pods=(waiting,), gpus=GPUCount(offered=16, nodes=2, held=0))
    assert conditions(folded(observed).status)["Progressing"] == ("True", "WaitingForGPU")
    own = {"nodeSelector": {"pool": "typo"}}
    assert conditions(folded(observed, pod=own).status)["Progressing"] == ("True", "Unschedulable")
    given = [{"field": "spec.pod.nodeSelector[pool]", "value": "typo"}]
    default = replace(observed, plan=make_plan(defaults=given))
    assert conditions(folded(default).status)["Progressing"] == ("True", "Unschedulable")
    taken = replace(observed, gpus=GPUCount(offered=16, nodes=2, held=15))
    assert conditions(folded(taken, pod=own).status)["Progressing"] == ("True", "WaitingForGPU")


NO_PRODUCT = "2 node(s) didn't match Pod's node affinity/selector"


def nowhere(told: str) -> PodRecord:
    return replace(
        POD,
        scheduled=False,
        unschedulable_since=NOW.isoformat(),
        unschedulable_message=f"0/3 nodes are available: {told}.",
    )


@pytest.mark.parametrize(
    ("told", "way"),
    [
        (
            f"1 Insufficient memory, {NO_PRODUCT}",
            "a pod asks for 24Gi of memory (spec.pod.resources.requests)",
        ),
        (
            "1 Insufficient cpu, 1 Insufficient memory, 2 Insufficient nvidia.com/gpu",
            "a pod asks for 6 of cpu and 24Gi of memory (spec.pod.resources.requests)",
        ),
        (
            f"1 node(s) had untolerated taint {{a: b}}, {NO_PRODUCT}",
            "add the taint to spec.pod.tolerations, or take it off a node",
        ),
    ],
)
def test_a_pod_does_not_wait_for_gpus_where_their_nodes_are_free_and_lack_something_else(
    told: str, way: str
) -> None:
    free = GPUCount(offered=16, nodes=1, held=0)
    observed = replace(STARTING, pods=(nowhere(told),), gpus=free)
    status = folded(observed).status
    assert conditions(status)["Progressing"] == ("True", "Unschedulable")
    assert said(status).endswith(f"; {way}")
    taken = replace(observed, gpus=replace(free, held=15))
    assert conditions(folded(taken).status)["Progressing"] == ("True", "WaitingForGPU")


def test_a_pod_says_what_it_asks_for_where_no_node_has_as_much() -> None:
    observed = replace(STARTING, pods=(nowhere("3 Insufficient memory"),))
    own = {"resources": {"requests": {"memory": "900Gi"}}}
    assert said(folded(observed, pod=own).status).endswith(
        "; a pod asks for 900Gi of memory (spec.pod.resources.requests)"
    )


@pytest.mark.parametrize(
    "reason",
    [
        "had volume node affinity conflict",
        "didn't match PersistentVolume's node affinity",
        "had untolerated taint {example.com/gpu: true}",
        "had untolerated taint(s) {nvidia.com/gpu: shared}",
    ],
)
def test_a_pod_whose_volume_or_taint_no_node_takes_does_not_wait_for_a_gpu(reason: str) -> None:
    waiting = replace(
        POD,
        scheduled=False,
        unschedulable_since=NOW.isoformat(),
        unschedulable_message=f"0/1 nodes are available: 1 node(s) {reason}.",
    )
    observed = replace(STARTING, pods=(waiting,), gpus=GPUCount(offered=16, nodes=2, held=0))
    assert conditions(folded(observed).status)["Progressing"] == ("True", "Unschedulable")


def test_a_node_s_disk_that_is_too_small_for_the_weights_is_told_with_what_takes_none_of_it() -> (
    None
):
    told = "0/1 nodes are available: 1 Insufficient ephemeral-storage."
    waiting = replace(
        POD, scheduled=False, unschedulable_since=NOW.isoformat(), unschedulable_message=told
    )
    disk = {"kind": "EmptyDir", "mode": "Cache", "surge": True, "diskBytes": 133 << 30}
    observed = replace(STARTING, pods=(waiting,), plan=make_plan(storage=disk))
    assert said(folded(observed).status).endswith(
        "a pod asks for 133 GiB of the node's disk for what it downloads, and for none where "
        "spec.model.storage names a volume"
    )


def test_the_plan_that_served_last_is_remembered_until_another_serves() -> None:
    first = folded(replace(READY, ready_revision="qwen-1")).status
    assert folded(STARTING, first).status["latestReadyRevision"] == "qwen-1"
    second = folded(replace(READY, ready_revision="qwen-2"), first).status
    assert second["latestReadyRevision"] == "qwen-2"


MEMORY = summary(make_plan()).memory


def test_the_summary_says_in_gib_what_is_planned_on_each_gpu() -> None:
    assert MEMORY == "7.12 GiB weights and 40.00 GiB KV cache of 79.16 GiB"


def test_the_summary_names_nodes_and_experts_where_they_are_spread() -> None:
    placement = {
        **make_plan().to_json_object()["placement"],
        "tensor": 8,
        "pipeline": 2,
        "nodes": 2,
        "expert": True,
        "gpusPerReplica": 16,
    }
    assert summary(make_plan(placement=placement)).to_json_object() == {
        "model": "Qwen/Qwen2.5-7B-Instruct",
        "gpus": "16 x H100-80GB-HBM3 on 2 nodes",
        "parallelism": "TP8 PP2 EP",
        "memory": MEMORY,
        "version": "0.30.0",
    }


WAITS = replace(
    POD,
    scheduled=False,
    unschedulable_since=NOW.isoformat(),
    unschedulable_message="0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
)
LATE = replace(DEPLOYMENT, ready_replicas=0, deadline_exceeded=True)


@pytest.mark.parametrize(
    "observed",
    [
        Observed((PROBLEM,), False, None, False, None, None, ()),
        Observed((PROBLEM,), True, None, False, None, None, ()),
        replace(READY, problems=(PROBLEM,), planned=False),
        replace(STARTING, pods=(WAITS,)),
        replace(STARTING, deployment=LATE, pods=(WAITS,)),
        replace(STARTING, pods=(replace(POD, started_at=LONG_AGO),)),
        STOPPED,
        WAITING,
        replace(WAITING, deployment=LATE),
        BACK,
        NOTHING_RUNS,
    ],
    ids=[
        "unplanned",
        "waits for a source",
        "a refused edit",
        "waits for a GPU",
        "stuck",
        "loads",
        "does not start",
        "waits for a Secret",
        "waited too long",
        "went back",
        "stopped",
    ],
)
def test_what_is_wrong_is_said_by_two_conditions_and_named_by_the_others(
    observed: Observed,
) -> None:
    told = [str(c["message"]) for c in folded(observed).status["conditions"]]
    ready = told[0]
    parts = [ready, *ready.split("; ")]
    for part in (part for part in parts if len(part) > 20):
        assert sum(part in message for message in told) <= 2, part


def steps_of(before: dict[str, Any], after: dict[str, Any]) -> list[Any]:
    return steps(*(Remembered.from_status(one).status for one in (before, after)))


def taken(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Reasons of the steps between two statuses."""
    return [note[1] for _, note in steps_of(before, after)]


LOADING = replace(STARTING, pods=(replace(POD, started_at=LONG_AGO),))


def test_a_life_is_told_by_its_steps() -> None:
    before: dict[str, Any] = {}
    told = []
    for seen in (STARTING, replace(STARTING, pods=(WAITS,)), LOADING, SERVING):
        after = folded(seen, before).status
        told.append([note[:2] for _, note in steps_of(before, after)])
        before = after
    reasons = ("Planned", "WaitingForGPU", "Loading", "Ready")
    assert told == [[("Normal", reason)] for reason in reasons]


def test_a_specification_that_is_planned_after_one_that_was_not_is_a_step() -> None:
    refused = folded(replace(READY, problems=(PROBLEM,), planned=False)).status
    assert taken(refused, folded(SERVING, refused).status) == ["Planned", "Ready"]


def test_a_status_that_goes_on_tells_no_step() -> None:
    serving, loading = folded(SERVING).status, folded(LOADING).status
    assert taken(serving, folded(SERVING, serving).status) == []
    assert taken(loading, folded(LOADING, loading).status) == []


def test_of_replicas_that_load_one_after_the_other_one_step_is_told() -> None:
    first = folded(LOADING).status
    between = folded(STARTING, first).status
    again = folded(LOADING, between).status
    (one, note), (other, same) = *steps_of({}, first)[1:], *steps_of(between, again)
    assert (one, note[1]) == (other, same[1]) == (one, "Loading")


def test_an_edit_that_loads_is_a_step_of_its_own() -> None:
    first = folded(LOADING).status
    edited = {**folded(LOADING, folded(STARTING, first).status).status, "observedGeneration": 7}
    assert steps_of(folded(STARTING).status, edited)[0][0] != steps_of({}, first)[1][0]


def test_a_step_that_is_told_again_has_the_name_that_it_had() -> None:
    def name(once: str, reason: str = "Ready") -> str:
        told = ("Normal", reason, "Serve", "serving")
        body = event(make_server(), *told, now=NOW, instance="a", once=once)  # type: ignore[arg-type]
        return str(body["metadata"]["name"])

    assert name("1") == name("1")
    assert len({name("1"), name("2"), name("1", "Loading")}) == 3


def columns(observed: Observed, **spec: Any) -> tuple[str | None, str | None]:
    shown = folded(observed, **spec).status["summary"]
    return shown.get("model"), shown.get("ready")


def test_the_columns_count_pods_and_show_the_model_that_is_served_beside_a_refused_edit() -> None:
    assert columns(SERVING) == ("Qwen/Qwen2.5-7B-Instruct", "1/1")
    assert columns(SERVING, replicas=4) == ("Qwen/Qwen2.5-7B-Instruct", "1/4")
    assert columns(NOTHING_RUNS, replicas=0) == ("Qwen/Qwen2.5-7B-Instruct", "0/0")
    other = {"model": {"id": "some/other-model"}}
    refused = replace(SERVING, problems=(PROBLEM,), planned=False)
    assert columns(refused, **other) == ("Qwen/Qwen2.5-7B-Instruct", "1/1")
    unplanned = replace(refused, plan=None, deployment=None, pods=())
    assert columns(unplanned, **other) == ("some/other-model", "0/1")


def test_ready_is_the_first_condition() -> None:
    assert next(iter(conditions(folded(SERVING).status))) == "Ready"


@pytest.mark.parametrize(
    ("split", "parallelism", "gpus"),
    [
        ({"tensor": 1}, "TP1", "1 x H100-80GB-HBM3"),
        ({"tensor": 8}, "TP8", "8 x H100-80GB-HBM3"),
        ({"tensor": 1, "pipeline": 2}, "TP1 PP2", "2 x H100-80GB-HBM3"),
        ({"tensor": 1, "data": 2}, "TP1 DP2", "2 x H100-80GB-HBM3"),
        ({"tensor": 2, "data": 4, "expert": True}, "TP2 DP4 EP", "8 x H100-80GB-HBM3"),
        (
            {"tensor": 8, "pipeline": 2, "data": 2, "nodes": 4},
            "TP8 PP2 DP2",
            "32 x H100-80GB-HBM3 on 4 nodes",
        ),
    ],
)
def test_a_layout_is_shown_by_what_divides_the_model(
    split: dict[str, Any], parallelism: str, gpus: str
) -> None:
    ranks = split["tensor"] * split.get("pipeline", 1) * split.get("data", 1)
    placement = make_plan().placement.to_json_object() | {"gpusPerReplica": ranks, **split}
    shown = summary(make_plan(placement=placement))
    assert (shown.parallelism, shown.gpus) == (parallelism, gpus)
