"""Every condition of a server in the states that it may be in, word for word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.builders import make_plan, make_server
from support.observed import DEPLOYMENT, NOW, POD
from vllm_operator.api.plan import Problem
from vllm_operator.lifecycle.gpus import GPUCount
from vllm_operator.lifecycle.progress import Observed
from vllm_operator.lifecycle.recovery import Trouble
from vllm_operator.lifecycle.remembered import Remembered
from vllm_operator.lifecycle.revisions import Abandoned
from vllm_operator.lifecycle.status import fold, server_state

LONG_AGO = (NOW - timedelta(minutes=1)).isoformat()
READY = Observed((), False, make_plan(), True, None, DEPLOYMENT, (replace(POD, ready=True),))
NONE_READY = replace(DEPLOYMENT, ready_replicas=0, available_replicas=0)
LOADS = replace(POD, started_at=LONG_AGO)
NOWHERE = replace(
    POD,
    scheduled=False,
    started_at=None,
    unschedulable_since=NOW.isoformat(),
    unschedulable_message="0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
)
STARTING = replace(READY, deployment=NONE_READY, pods=(LOADS,))
NOTHING = Observed((), False, None, False, None, None, ())
TOO_SMALL = Trouble("KVCacheTooSmall", "too small; lower it", True)
AWAY = Trouble("HubUnreachable", "the Hub is away", False)
GIVEN_UP = Abandoned(make_server().spec, None, "KVCacheTooSmall", "too small", True, "qwen-1")


def problem(reason: str) -> Problem:
    return Problem(field="spec.gpu.product", reason=reason, message="no such GPU")


UNKNOWN = problem("UnknownGPU")
STATES: Mapping[str, tuple[Observed, dict[str, Any]]] = {
    "ready": (READY, {}),
    "loading": (STARTING, {}),
    "one of two ready": (
        replace(READY, deployment=replace(DEPLOYMENT, spec_replicas=2, replicas=2)),
        {"replicas": 2},
    ),
    "scaled to zero": (
        replace(READY, deployment=replace(NONE_READY, spec_replicas=0, replicas=0), pods=()),
        {"replicas": 0},
    ),
    "paused": (READY, {"paused": True}),
    "paused before it was planned": (NOTHING, {"paused": True}),
    "an edit that was not planned while paused": (replace(READY, planned=False), {"paused": True}),
    "no plan": (replace(NOTHING, problems=(UNKNOWN,)), {}),
    "no plan for three reasons": (replace(NOTHING, problems=(UNKNOWN,) * 3), {}),
    "no plan for now": (replace(NOTHING, problems=(UNKNOWN,), waits=True), {}),
    "a wrong edit of one that serves": (replace(READY, problems=(UNKNOWN,)), {}),
    "an object that is refused": (replace(READY, problems=(problem("ObjectRefused"),)), {}),
    "a defect of the operator": (replace(READY, problems=(problem("OperatorDefect"),)), {}),
    "a plan that is unreadable": (replace(NOTHING, problems=(problem("PlanUnreadable"),)), {}),
    "a start that fails for good": (replace(STARTING, trouble=TOO_SMALL), {}),
    "a start that fails for now": (replace(STARTING, trouble=AWAY), {}),
    "given up, with nothing to go back to": (
        replace(STARTING, deployment=replace(NONE_READY, spec_replicas=0), abandoned=GIVEN_UP),
        {},
    ),
    "given up, with the plan before": (
        replace(
            READY,
            problems=(problem("KVCacheTooSmall"),),
            abandoned=replace(GIVEN_UP, stopped=False),
        ),
        {},
    ),
    "a newer plan": (replace(READY, update="vLLM 0.30.0 -> 0.32.0"), {}),
    "another engine than was planned": (replace(READY, engine_version="0.11.2"), {}),
    "an engine that was built from source": (replace(READY, engine_version="0.1.dev1"), {}),
    "a Deployment that may not make pods": (
        replace(STARTING, deployment=replace(NONE_READY, message="exceeded quota: gpus"), pods=()),
        {},
    ),
    "a rollout that is stuck": (
        replace(
            STARTING,
            deployment=replace(NONE_READY, deadline_exceeded=True, message="exceeded quota: gpus"),
            pods=(replace(LOADS, restarts=2, last_exit="exit code 1"),),
        ),
        {},
    ),
    "no node with free GPUs": (
        replace(STARTING, pods=(NOWHERE,), gpus=GPUCount(8, 1, 7)),
        {},
    ),
    "no node at all": (
        replace(STARTING, pods=(replace(NOWHERE, unschedulable_message="untolerated taint"),)),
        {},
    ),
    "a pod that a queue holds": (
        replace(STARTING, pods=(replace(NOWHERE, waits_for="a gate"),)),
        {},
    ),
    "a pod that only just began": (
        replace(STARTING, pods=(replace(POD, started_at=NOW.isoformat()),)),
        {},
    ),
}


def told(observed: Observed, spec: dict[str, Any]) -> dict[str, str]:
    status = fold(make_server(**spec), Remembered.from_status(None), observed, NOW).status
    return {one.type: f"{one.status} {one.reason}: {one.message}" for one in status.conditions}


READY_TEXTS = {
    "Ready": "True Ready: serving at http://qwen.default.svc:8000/v1",
    "Available": "True ReplicasReady: 1 of 1 replicas are ready",
    "Progressing": "False Settled: 1 of 1 replicas are up to date",
    "Planned": (
        "True Sized: 2 x H100-80GB-HBM3 a replica, TP2, vLLM 0.30.0: up to 32768 tokens a "
        "request, 256 requests at once, KV cache for at least 40802189312 tokens"
    ),
    "UpdateAvailable": "False UpToDate: a new plan would choose the same",
    "Reconciling": "False Settled: nothing is under way",
    "Stalled": "False Progressing: nothing stops the operator",
}
TEXTS: Mapping[str, Mapping[str, str]] = {
    "ready": {},
    "loading": {
        "Ready": "False Loading: 1 of 1 replicas updated, 0 ready; 1 loading the model",
        "Available": "False NoReplicaReady: 0 of 1 replicas are ready",
        "Progressing": "True Loading: 1 of 1 replicas updated, 0 ready; 1 loading the model",
        "Reconciling": "True Progressing: Loading; the condition Progressing says more",
    },
    "one of two ready": {
        "Ready": "False RollingOut: rolling out to 2 replicas",
        "Available": "True SomeReplicasReady: 1 of 2 replicas are ready",
        "Progressing": "True RollingOut: rolling out to 2 replicas",
        "Reconciling": "True Progressing: RollingOut; the condition Progressing says more",
    },
    "scaled to zero": {
        "Ready": "True ScaledToZero: stopped, as spec.replicas asks",
        "Available": "False ScaledToZero: spec.replicas is 0",
        "Progressing": "False Settled: 0 of 0 replicas are up to date",
    },
    "paused": {
        "Progressing": "False Paused: spec.paused is true: nothing is rolled, scaled or repaired",
    },
    "paused before it was planned": {
        "Ready": (
            "False Paused: spec.paused is true, and the specification as it stands was not planned"
        ),
        "Available": "False NoReplicaReady: 0 of 1 replicas are ready",
        "Progressing": "False Paused: spec.paused is true: nothing is rolled, scaled or repaired",
        "Planned": (
            "Unknown Paused: spec.paused is true, and the specification as it stands was not "
            "planned"
        ),
        "UpdateAvailable": (
            "Unknown NotPlanned: the specification as it stands has no plan to compare with"
        ),
    },
    "an edit that was not planned while paused": {
        "Ready": (
            "False Paused: spec.paused is true, and the specification as it stands was not planned"
        ),
        "Progressing": "False Paused: spec.paused is true: nothing is rolled, scaled or repaired",
        "Planned": (
            "Unknown Paused: spec.paused is true, and the specification as it stands was not "
            "planned"
        ),
        "UpdateAvailable": (
            "Unknown NotPlanned: the specification as it stands has no plan to compare with"
        ),
    },
    "no plan": {
        "Ready": "False UnknownGPU: spec.gpu.product: no such GPU",
        "Available": "False NoReplicaReady: 0 of 1 replicas are ready",
        "Progressing": "False NotPlanned: nothing can be rolled out before it is planned",
        "Planned": "False UnknownGPU: spec.gpu.product: no such GPU",
        "UpdateAvailable": (
            "Unknown NotPlanned: the specification as it stands has no plan to compare with"
        ),
        "Stalled": (
            "True NotPlanned: the specification must change: UnknownGPU at spec.gpu.product; "
            "the condition Planned says why"
        ),
    },
    "no plan for three reasons": {
        "Ready": "False UnknownGPU: spec.gpu.product: no such GPU (and 2 more in status.problems)",
        "Available": "False NoReplicaReady: 0 of 1 replicas are ready",
        "Progressing": "False NotPlanned: nothing can be rolled out before it is planned",
        "Planned": (
            "False UnknownGPU: spec.gpu.product: no such GPU (and 2 more in status.problems)"
        ),
        "UpdateAvailable": (
            "Unknown NotPlanned: the specification as it stands has no plan to compare with"
        ),
        "Stalled": (
            "True NotPlanned: the specification must change: UnknownGPU at spec.gpu.product; "
            "the condition Planned says why"
        ),
    },
    "no plan for now": {
        "Ready": "False UnknownGPU: spec.gpu.product: no such GPU",
        "Available": "False NoReplicaReady: 0 of 1 replicas are ready",
        "Progressing": "False NotPlanned: nothing can be rolled out before it is planned",
        "Planned": "False UnknownGPU: spec.gpu.product: no such GPU",
        "UpdateAvailable": (
            "Unknown NotPlanned: the specification as it stands has no plan to compare with"
        ),
        "Reconciling": "True Progressing: UnknownGPU; the condition Planned says more",
    },
    "a wrong edit of one that serves": {
        "Ready": (
            "False UnknownGPU: spec.gpu.product: no such GPU; the last good plan keeps serving"
        ),
        "Planned": (
            "False UnknownGPU: spec.gpu.product: no such GPU; the last good plan keeps serving"
        ),
        "UpdateAvailable": (
            "Unknown NotPlanned: the specification as it stands has no plan to compare with"
        ),
        "Stalled": (
            "True NotPlanned: the specification must change: UnknownGPU at spec.gpu.product; "
            "the condition Planned says why"
        ),
    },
    "an object that is refused": {
        "Ready": (
            "False ObjectRefused: spec.gpu.product: no such GPU; the last good plan keeps serving"
        ),
        "Planned": (
            "False ObjectRefused: spec.gpu.product: no such GPU; the last good plan keeps serving"
        ),
        "UpdateAvailable": (
            "Unknown NotPlanned: the specification as it stands has no plan to compare with"
        ),
        "Stalled": (
            "True NotPlanned: ObjectRefused at spec.gpu.product; the condition Planned says why"
        ),
    },
    "a defect of the operator": {
        "Ready": (
            "False OperatorDefect: spec.gpu.product: no such GPU; the last good plan keeps serving"
        ),
        "Planned": (
            "False OperatorDefect: spec.gpu.product: no such GPU; the last good plan keeps serving"
        ),
        "UpdateAvailable": (
            "Unknown NotPlanned: the specification as it stands has no plan to compare with"
        ),
        "Stalled": (
            "True NotPlanned: OperatorDefect at spec.gpu.product; the condition Planned says why"
        ),
    },
    "a plan that is unreadable": {
        "Ready": "False PlanUnreadable: spec.gpu.product: no such GPU",
        "Available": "False NoReplicaReady: 0 of 1 replicas are ready",
        "Progressing": "False NotPlanned: nothing can be rolled out before it is planned",
        "Planned": "False PlanUnreadable: spec.gpu.product: no such GPU",
        "UpdateAvailable": (
            "Unknown NotPlanned: the specification as it stands has no plan to compare with"
        ),
        "Stalled": (
            "True NotPlanned: PlanUnreadable at spec.gpu.product; the condition Planned says why"
        ),
    },
    "a start that fails for good": {
        "Ready": "False KVCacheTooSmall: 1 of 1 replicas updated, 0 ready; too small; lower it",
        "Available": (
            "False KVCacheTooSmall: 0 of 1 replicas are ready; the condition Progressing says why"
        ),
        "Progressing": (
            "False KVCacheTooSmall: 1 of 1 replicas updated, 0 ready; too small; lower it"
        ),
        "Stalled": (
            "True KVCacheTooSmall: it does not go on like this; the condition Progressing says why"
        ),
    },
    "a start that fails for now": {
        "Ready": "False HubUnreachable: 1 of 1 replicas updated, 0 ready; the Hub is away",
        "Available": (
            "False HubUnreachable: 0 of 1 replicas are ready; the condition Progressing says why"
        ),
        "Progressing": "True HubUnreachable: 1 of 1 replicas updated, 0 ready; the Hub is away",
        "Reconciling": "True Progressing: HubUnreachable; the condition Progressing says more",
    },
    "given up, with nothing to go back to": {
        "Ready": "False KVCacheTooSmall: too small",
        "Available": (
            "False KVCacheTooSmall: 0 of 1 replicas are ready; the condition Progressing says why"
        ),
        "Progressing": "False KVCacheTooSmall: too small",
        "Stalled": (
            "True KVCacheTooSmall: it does not go on like this; the condition Progressing says why"
        ),
    },
    "given up, with the plan before": {
        "Ready": (
            "False KVCacheTooSmall: spec.gpu.product: no such GPU; the last good plan keeps serving"
        ),
        "Progressing": "False KVCacheTooSmall: 1 of 1 replicas are of the plan before; too small",
        "Planned": (
            "False KVCacheTooSmall: spec.gpu.product: no such GPU; the last good plan keeps serving"
        ),
        "UpdateAvailable": (
            "Unknown NotPlanned: the specification as it stands has no plan to compare with"
        ),
        "Stalled": (
            "True KVCacheTooSmall: the specification must change: KVCacheTooSmall at "
            "spec.gpu.product; the condition Planned says why"
        ),
    },
    "a newer plan": {
        "UpdateAvailable": (
            "True PlanDiffers: a new plan would choose otherwise: vLLM 0.30.0 -> 0.32.0; "
            "change the annotation vllm-operator.io/replan to take it"
        ),
    },
    "another engine than was planned": {
        "Planned": (
            "True VersionDiffers: the engine says that it is vLLM 0.11.2, and the plan is for "
            "0.30.0, whose flags and memory it may not share: set spec.engine.version to "
            '"0.11.2". 2 x H100-80GB-HBM3 a replica, TP2, vLLM 0.30.0: up to 32768 tokens a '
            "request, 256 requests at once, KV cache for at least 40802189312 tokens"
        ),
    },
    "an engine that was built from source": {
        "Planned": (
            "True VersionDiffers: the engine says that it is vLLM 0.1.dev1, and the plan is "
            "for 0.30.0, whose flags and memory it may not share: set spec.engine.version to "
            "the release that it was built from. 2 x H100-80GB-HBM3 a replica, TP2, vLLM "
            "0.30.0: up to 32768 tokens a request, 256 requests at once, KV cache for at least "
            "40802189312 tokens"
        ),
    },
    "a Deployment that may not make pods": {
        "Ready": "False RollingOut: 1 of 1 replicas updated, 0 ready; exceeded quota: gpus",
        "Available": "False NoReplicaReady: 0 of 1 replicas are ready",
        "Progressing": "True RollingOut: 1 of 1 replicas updated, 0 ready; exceeded quota: gpus",
        "Reconciling": "True Progressing: RollingOut; the condition Progressing says more",
    },
    "a rollout that is stuck": {
        "Ready": (
            "False RolloutStuck: 1 of 1 replicas updated, 0 ready; a pod has restarted, exit code 1"
        ),
        "Available": "False NoReplicaReady: 0 of 1 replicas are ready",
        "Progressing": (
            "False RolloutStuck: 1 of 1 replicas updated, 0 ready; a pod has restarted, exit code 1"
        ),
        "Stalled": (
            "True RolloutStuck: it does not go on like this; the condition Progressing says why"
        ),
    },
    "no node with free GPUs": {
        "Ready": (
            "False WaitingForGPU: the scheduler finds no node with 2 free "
            "NVIDIA-H100-80GB-HBM3 for a replica (1 node has 8, model servers that this "
            "operator sees hold 7): 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
        ),
        "Available": "False NoReplicaReady: 0 of 1 replicas are ready",
        "Progressing": (
            "True WaitingForGPU: the scheduler finds no node with 2 free NVIDIA-H100-80GB-HBM3 "
            "for a replica (1 node has 8, model servers that this operator sees hold 7): 0/3 "
            "nodes are available: 3 Insufficient nvidia.com/gpu."
        ),
        "Reconciling": "True Progressing: WaitingForGPU; the condition Progressing says more",
    },
    "no node at all": {
        "Ready": (
            "False Unschedulable: the scheduler finds no node for a replica: untolerated "
            "taint; add the taint to spec.pod.tolerations, or take it off a node"
        ),
        "Available": "False NoReplicaReady: 0 of 1 replicas are ready",
        "Progressing": (
            "True Unschedulable: the scheduler finds no node for a replica: untolerated taint; "
            "add the taint to spec.pod.tolerations, or take it off a node"
        ),
        "Reconciling": "True Progressing: Unschedulable; the condition Progressing says more",
    },
    "a pod that a queue holds": {
        "Ready": (
            "False SchedulingGated: a pod waits for a gate; whoever set them, such as a queue, "
            "removes them"
        ),
        "Available": "False NoReplicaReady: 0 of 1 replicas are ready",
        "Progressing": (
            "True SchedulingGated: a pod waits for a gate; whoever set them, such as a queue, "
            "removes them"
        ),
        "Reconciling": "True Progressing: SchedulingGated; the condition Progressing says more",
    },
    "a pod that only just began": {
        "Ready": "False RollingOut: rolling out to 1 replica",
        "Available": "False NoReplicaReady: 0 of 1 replicas are ready",
        "Progressing": "True RollingOut: rolling out to 1 replica",
        "Reconciling": "True Progressing: RollingOut; the condition Progressing says more",
    },
}


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_told_by_each_condition_in_these_words(state: str) -> None:
    assert told(*STATES[state]) == READY_TEXTS | TEXTS[state]


WORDS = {
    "ready": "Ready",
    "a newer plan": "Ready",
    "another engine than was planned": "Ready",
    "an engine that was built from source": "Ready",
    "loading": "Progressing",
    "one of two ready": "Progressing",
    "a start that fails for now": "Progressing",
    "a Deployment that may not make pods": "Progressing",
    "no node with free GPUs": "Progressing",
    "no node at all": "Progressing",
    "a pod that a queue holds": "Progressing",
    "a pod that only just began": "Progressing",
    "scaled to zero": "ScaledToZero",
    "paused": "Paused",
    "paused before it was planned": "Paused",
    "an edit that was not planned while paused": "Paused",
    "no plan": "NotPlanned",
    "no plan for three reasons": "NotPlanned",
    "no plan for now": "NotPlanned",
    "a wrong edit of one that serves": "NotPlanned",
    "an object that is refused": "NotPlanned",
    "a defect of the operator": "NotPlanned",
    "a plan that is unreadable": "NotPlanned",
    "given up, with the plan before": "NotPlanned",
    "a start that fails for good": "Stalled",
    "given up, with nothing to go back to": "Stalled",
    "a rollout that is stuck": "Stalled",
}
"""What the operator's metrics call each state."""


@pytest.mark.parametrize("state", STATES)
def test_a_state_has_one_word_in_the_metrics(state: str) -> None:
    observed, spec = STATES[state]
    status = fold(make_server(**spec), Remembered.from_status(None), observed, NOW).status
    assert server_state(status) == WORDS[state]
