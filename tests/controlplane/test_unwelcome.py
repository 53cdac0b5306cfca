"""Namespaces that take nothing more: one that is being deleted, and ones that refuse a server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from localcluster.client import ApiError
from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.world import World

EVERYWHERE = {"namespaces": []}
FAILED = 'vllm_operator_reconciles_total{result="error"}'
VISITS = 'vllm_operator_reconciles_total{result="success"}'
ADMISSION = "/apis/admissionregistration.k8s.io/v1"


def namespace(world: World, name: str) -> World:
    world.cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return World(world.cluster, name)


def refusals(operator: OperatorProcess) -> int:
    """How often the API server has answered that something is forbidden."""
    lines = (operator.get("/metrics") or "").splitlines()
    counted = [one for one in lines if one.startswith("vllm_operator_api_requests_total{")]
    return int(sum(float(one.rsplit(" ", 1)[1]) for one in counted if 'code="403"' in one))


def exists(world: World) -> bool:
    try:
        world.cluster.api("GET", f"/api/v1/namespaces/{world.namespace}")
    except ApiError as error:
        return error.status != 404
    return True


def test_a_namespace_that_is_deleted_with_its_servers_is_no_error(
    own_world: World, start_operator: StartOperator
) -> None:
    operator = start_operator(own_world, chart=EVERYWHERE)
    doomed = namespace(own_world, "doomed")
    for name in ("one", "two", "three"):
        doomed.apply(name, replicas=2)
    for name in ("one", "two", "three"):
        doomed.wait_ready(name)
    own_world.cluster.api("DELETE", "/api/v1/namespaces/doomed")
    own_world.wait(lambda: not exists(doomed), "the namespace to go", timeout=60)
    assert operator.metric(FAILED) == 0
    assert operator.metric("vllm_operator_queue_depth") == 0
    assert "reconcile failed" not in operator.log.read_text()


def test_an_operator_that_slept_while_a_namespace_went_makes_no_error_of_it(
    own_world: World, start_operator: StartOperator
) -> None:
    operator = start_operator(own_world, chart=EVERYWHERE)
    doomed = namespace(own_world, "doomed")
    names = [f"server-{number}" for number in range(6)]
    for name in names:
        doomed.apply(name)
    for name in names:
        doomed.wait_ready(name)
    os.kill(operator.pid, signal.SIGSTOP)
    try:
        own_world.cluster.api("DELETE", "/api/v1/namespaces/doomed")
        own_world.wait(lambda: not exists(doomed), "the namespace to go", timeout=60)
    finally:
        os.kill(operator.pid, signal.SIGCONT)
    own_world.apply("later")
    own_world.wait_ready("later")
    assert "reconcile failed" not in operator.log.read_text()
    assert operator.metric(FAILED) == 0


@pytest.mark.parametrize("edited", [False, True], ids=["an object is gone", "an edit came late"])
def test_what_cannot_be_made_any_more_is_tried_once_and_no_error(
    own_world: World, start_operator: StartOperator, edited: bool
) -> None:
    operator = start_operator(own_world, chart=EVERYWHERE)
    doomed = namespace(own_world, "doomed")
    doomed.apply()
    doomed.wait_ready()
    own_world.cluster.stop_controllers()  # the namespace stays as it is: being deleted
    own_world.cluster.api("DELETE", "/api/v1/namespaces/doomed")
    before = refusals(operator)
    if edited:
        doomed.patch("VLLMServer", "qwen", {"spec": {"engine": {"maxNumSeqs": 64}}})
    else:
        doomed.delete("Deployment")
    own_world.wait(lambda: refusals(operator) > before, "the operator to try")
    own_world.apply("later")  # the operator has been at work since
    own_world.wait(lambda: own_world.find("Service", "later"), "another server's objects")
    assert refusals(operator) == before + 1
    assert operator.metric(FAILED) == 0


def refuse_deployments(world: World) -> None:
    quota(world, {"count/deployments.apps": "0"})


def refuse_pods(world: World) -> None:
    quota(world, {"pods": "0"})


def quota(world: World, hard: dict[str, str]) -> None:
    path = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
    world.cluster.api("POST", path, {"metadata": {"name": "none"}, "spec": {"hard": hard}})
    world.wait(
        lambda: world.cluster.api("GET", f"{path}/none").get("status", {}).get("used"),
        "the quota to be counted",
    )


def policy(group: str, resource: str) -> Callable[[World], None]:
    """A policy that refuses whatever is made of a kind, once it is in force."""

    def refuse(world: World) -> None:
        name = f"{world.namespace}-no-{resource}"
        rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"]}
        mine = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
        rules = [{**rule, "resources": [resource]}]
        spec = {
            "matchConstraints": {"resourceRules": rules, "namespaceSelector": mine},
            "validations": [{"expression": "false", "message": "none of these here"}],
        }
        bound = {"policyName": name, "validationActions": ["Deny"]}
        metadata = {"name": name}
        path = f"{ADMISSION}/validatingadmissionpolic"
        world.cluster.api("POST", f"{path}ies", {"metadata": metadata, "spec": spec})
        world.cluster.api("POST", f"{path}ybindings", {"metadata": metadata, "spec": bound})
        tried = {"Pod": PROBE, "Deployment": DEPLOYMENT}
        kind = "Pod" if resource == "pods" else "Deployment"

        def refuses() -> bool:
            try:
                world.cluster.api("POST", f"{world.path(kind)}?dryRun=All", tried[kind])
            except ApiError as error:
                return "none of these here" in error.message
            return False

        world.wait(refuses, "the policy to be in force")

    return refuse


POD_SPEC = {"containers": [{"name": "c", "image": "i"}]}
PROBE = {"metadata": {"name": "probe"}, "spec": POD_SPEC}
PROBES = {"app": "probe"}
DEPLOYMENT = {
    "metadata": {"name": "probe"},
    "spec": {
        "selector": {"matchLabels": PROBES},
        "template": {"metadata": {"labels": PROBES}, "spec": POD_SPEC},
    },
}
REFUSING: dict[str, tuple[Callable[[World], None], str, str]] = {
    "a quota of no Deployments": (refuse_deployments, "Planned", "ObjectRefused"),
    "a quota of no pods": (refuse_pods, "Progressing", "QuotaExceeded"),
    "a policy against Deployments": (policy("apps", "deployments"), "Planned", "ObjectRefused"),
    "a policy against pods": (policy("", "pods"), "Progressing", "PodRefused"),
}


@pytest.mark.parametrize(
    ("refuse", "kind", "reason"), REFUSING.values(), ids=[n.replace(" ", "-") for n in REFUSING]
)
def test_a_namespace_that_refuses_a_server_is_told_once_however_often_it_is_visited(
    world: World,
    operator: OperatorProcess,
    refuse: Callable[[World], None],
    kind: str,
    reason: str,
) -> None:
    def told() -> list[dict[str, Any]]:
        return [event for event in world.list("Event") if event["reason"] == reason]

    refuse(world)
    world.apply()
    world.wait(lambda: world.condition(kind).get("reason") == reason, f"{kind} {reason}")
    world.wait(told, "the event")
    status, written = world.status(), operator.metric("vllm_operator_writes_total")
    for number in range(4):
        visited = operator.metric(VISITS)
        label = {"metadata": {"labels": {"visit": str(number)}}}
        world.patch("VLLMServer", "qwen", label)
        world.wait(lambda visited=visited: operator.metric(VISITS) > visited, "a visit")
    assert world.status() == status
    assert operator.metric("vllm_operator_writes_total") == written
    assert len(told()) == 1
    assert operator.metric(FAILED) == 0
