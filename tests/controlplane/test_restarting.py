"""A restart that somebody asks for: every pod is replaced, and the plan stays."""

from __future__ import annotations

from localcluster.cluster import Cluster
from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.pods import is_ready
from support.world import World

RESTARTED = "kubectl.kubernetes.io/restartedAt"


def serving(world: World) -> set[str]:
    return {pod["metadata"]["uid"] for pod in world.list("Pod") if is_ready(pod)}


def restart(world: World) -> None:
    world.cluster.kubectl("rollout", "restart", "deployment/qwen", "-n", world.namespace)


def wait_replaced(world: World, before: set[str]) -> None:
    count = len(before)
    world.wait(
        lambda: len(serving(world)) == count and not serving(world) & before, "other pods", 90
    )
    rollout = ("rollout", "status", "deployment/qwen", "--timeout=60s", "-n", world.namespace)
    world.cluster.kubectl(*rollout)
    world.wait_ready(timeout=60)


def test_kubectl_restarts_a_server_by_its_name_and_the_operator_leaves_it_so(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(replicas=2)
    world.wait_ready(timeout=60)
    plans, before = world.list("ControllerRevision"), serving(world)
    restart(world)
    wait_replaced(world, before)
    after = serving(world)
    world.patch("VLLMServer", "qwen", {"metadata": {"labels": {"visit": "please"}}})
    world.apply(replicas=3)
    world.wait(lambda: len(serving(world)) == 3, "a third pod", 60)
    assert after < serving(world)
    assert RESTARTED in world.get("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert world.list("ControllerRevision") == plans
    assert not [event for event in world.list("Event") if event["reason"] == "Repaired"]


def test_a_restart_without_a_free_gpu_goes_on_in_place(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    start_operator(own_world)
    spec = {"parallelism": {"tensor": 4}, "rollout": {"surgeTimeoutSeconds": 0}}
    own_world.apply(replicas=2, **spec)
    own_world.wait_ready(timeout=60)
    before = serving(own_world)
    restart(own_world)
    wait_replaced(own_world, before)


def test_an_edit_of_a_pod_annotation_restarts_a_server_with_the_plan_that_it_has(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    server = world.wait_ready(timeout=60)
    before = serving(world)
    world.patch("VLLMServer", "qwen", {"spec": {"pod": {"annotations": {"restarted": "today"}}}})
    wait_replaced(world, before)
    assert world.status()["plan"] == server["status"]["plan"]
