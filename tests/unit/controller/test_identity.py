"""Of which plan a pod is: what another plan's pods do is never this one's."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from support.builders import OFFER, make_plan, make_planned, make_server
from unit.sizing.examples import inputs_for
from vllm_operator.controller.boot import BootReader
from vllm_operator.controller.client import Client
from vllm_operator.engine.failures import Failure
from vllm_operator.lifecycle.reading import child_record, pod_record, revision_record
from vllm_operator.lifecycle.records import PodRecord
from vllm_operator.lifecycle.recovery import Diagnosis, Past, decide, patience
from vllm_operator.lifecycle.revisions import Pinned, controller_revision, pinned, pods_of_plan
from vllm_operator.manifests.render import render

from .test_boot import NOW, TOO_SMALL, reader

KEY = ("default", "qwen")
MADE = "2026-01-01T10:00:00Z"
LATER = "2026-01-01T10:00:05Z"
DOWN = datetime.fromisoformat("2026-01-01T10:00:10Z")
TRIED = Failure("OOMKilled", "no memory", "more of it", passes=False)
CRASHES = {"reason": "CrashLoopBackOff"}
KILLED = {"exitCode": 137, "reason": "OOMKilled", "startedAt": LATER, "finishedAt": LATER}


def plan_of(number: int, **pod: Any) -> Pinned:
    """A pinned plan whose pods' engine is that of every other; ``pod`` is all that differs."""
    server = make_server(pod=pod)
    objects = render(server, make_plan(), replace(OFFER, node_labels={}))
    inputs = inputs_for(server).to_json_object()
    body = controller_revision(server, number, inputs, make_planned(*objects))
    body["metadata"].update(uid=f"r{number}", resourceVersion="1", creationTimestamp=MADE)
    return pinned(revision_record(body))


BEFORE, IN_FORCE = plan_of(1), plan_of(2, nodeSelector={"disk": "fast"})


def pod_of(plan: Pinned, name: str, *, ready: bool = False, **engine: Any) -> PodRecord:
    """A pod as the Deployment makes it of a plan's template, after the plan in force was pinned."""
    template = json.loads(json.dumps(plan.objects[0]["spec"]["template"]))
    metadata = {"namespace": "default", "name": name, "uid": name, "creationTimestamp": LATER}
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": LATER}]
    status = {"startTime": LATER, "conditions": conditions}
    return pod_record(
        {
            "metadata": {**metadata, "labels": template["metadata"]["labels"]},
            "spec": {**template["spec"], "nodeName": "n"},
            "status": {**status, "containerStatuses": [{"name": "engine", **engine}]},
        }
    )


def crashed(plan: Pinned, name: str) -> PodRecord:
    return pod_of(
        plan,
        name,
        restartCount=2,
        state={"waiting": CRASHES},
        lastState={"terminated": KILLED},
    )


DEPLOYMENT = child_record(
    "Deployment",
    {
        "metadata": {"name": "qwen"},
        "spec": {"replicas": 2},
        "status": {"replicas": 3, "updatedReplicas": 1},
    },
)


async def test_a_crash_of_another_plan_s_pod_is_not_this_plan_s() -> None:
    boot = BootReader(cast(Client, None))
    loads = pod_of(IN_FORCE, "new", state={"running": {"startedAt": LATER}})
    pods = [loads, crashed(BEFORE, "old")]
    assert await boot.diagnose(KEY, IN_FORCE, DEPLOYMENT, pods, NOW) is None
    found = await boot.diagnose(KEY, IN_FORCE, DEPLOYMENT, [crashed(IN_FORCE, "new")], NOW)
    assert found is not None
    assert found.failure.reason == "OOMKilled"


async def test_another_plan_s_pod_that_serves_does_not_keep_this_plan_from_being_repaired() -> None:
    boot, _ = reader(TOO_SMALL.format(left="2.4"))
    ended = {"exitCode": 1, "reason": "Error", "startedAt": LATER, "finishedAt": LATER}
    fails = pod_of(
        IN_FORCE, "new", restartCount=2, state={"waiting": CRASHES}, lastState={"terminated": ended}
    )
    serves = pod_of(BEFORE, "old", ready=True, state={"running": {"startedAt": LATER}})
    diagnosis = await boot.diagnose(KEY, IN_FORCE, DEPLOYMENT, [fails, serves], NOW)
    assert diagnosis is not None
    spec = make_server(pod={"nodeSelector": {"disk": "fast"}}).spec
    mine = pods_of_plan(IN_FORCE, [fails, serves])
    assert decide(spec, IN_FORCE, [], diagnosis, mine).repair is not None


@pytest.mark.parametrize("ready", [True, False], ids=["serves", "loads"])
def test_another_plan_s_pod_does_not_keep_this_plan_from_being_given_up(ready: bool) -> None:
    other = pod_of(BEFORE, "old", ready=ready, state={"running": {"startedAt": LATER}})
    pods = [crashed(IN_FORCE, "new"), other]
    past = Past(good=BEFORE, down_since=DOWN)
    assert patience(IN_FORCE, past, pods, Diagnosis(TRIED, 2), True, DOWN).is_over


def test_a_pod_of_this_plan_that_is_older_than_its_revision_is_this_plan_s() -> None:
    again = plan_of(3)
    older = pod_of(BEFORE, "old", ready=True, state={"running": {"startedAt": LATER}})
    late = DOWN + timedelta(seconds=300)
    pods = [crashed(again, "new"), older]
    assert patience(again, Past(), pods, Diagnosis(TRIED, 2), True, late).hopes
