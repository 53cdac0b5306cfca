"""Rollouts: surge where a GPU is free, in place where none is, and the reason otherwise."""

from __future__ import annotations

from localcluster.cluster import Cluster
from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.world import World, flag

FAIL = "localcluster.vllm-operator.io/fail"


def fill(world: World) -> None:
    """A server that takes all eight GPUs of the only node."""
    world.apply(gpu={"product": "H100"}, replicas=8, rollout={"surgeTimeoutSeconds": 0})
    world.wait_ready(timeout=60)


def test_a_rollout_without_a_free_gpu_goes_on_in_place(
    own_world: World, start_operator: StartOperator
) -> None:
    start_operator(own_world)
    fill(own_world)
    spec = {"gpu": {"product": "H100"}, "replicas": 8, "rollout": {"surgeTimeoutSeconds": 0}}
    own_world.apply(**spec, engine={"maxNumSeqs": 64})
    own_world.wait_ready(timeout=90)
    assert flag(own_world.args(), "--max-num-seqs") == "64"
    own_world.wait(
        lambda: own_world.get("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1,
        "the strategy to surge again",
    )


def test_a_replica_that_finds_no_gpu_is_said_to_wait_for_one(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    start_operator(own_world)
    own_world.apply(gpu={"product": "H100"}, replicas=9)
    waiting = own_world.wait_condition("Progressing", "True", "WaitingForGPU", timeout=60)
    assert "Insufficient nvidia.com/gpu" in waiting["message"]
    assert own_world.condition("Reconciling")["status"] == "True"
    assert own_world.condition("Stalled")["status"] == "False"
    own_cluster.add_gpu_node("h100-1")
    own_world.wait_ready(timeout=60)


def test_a_pod_that_cannot_start_shows_its_reason(
    own_world: World, start_operator: StartOperator
) -> None:
    start_operator(own_world)
    own_world.apply(pod={"annotations": {FAIL: "ImagePullBackOff"}})

    def said() -> bool:
        condition = own_world.condition("Progressing")
        return (
            condition.get("reason") == "ImagePullFailed"
            and "spec.engine.image" in condition["message"]
        )

    own_world.wait(said, "the reason", timeout=30)
    assert own_world.condition("Available")["reason"] == "ImagePullFailed"


def make_waiting_pod_of_another_plan(world: World) -> None:
    """A pod of another template of the server's, for which no node has GPUs enough."""
    template = world.get("Deployment")["spec"]["template"]
    labels = {
        **template["metadata"]["labels"],
        "pod-template-hash": "another",
        "vllm-operator.io/template": "1-another",
    }
    (engine,) = template["spec"]["containers"]
    gpus = {"nvidia.com/gpu": "64"}
    asked = {**engine, "resources": {"requests": gpus, "limits": gpus}}
    spec = {**template["spec"], "containers": [asked]}
    world.create("Pod", {"metadata": {"name": "another", "labels": labels}, "spec": spec})

    def waits() -> bool:
        conditions = world.get("Pod", "another").get("status", {}).get("conditions", [])
        return any("Insufficient nvidia.com/gpu" in one.get("message", "") for one in conditions)

    world.wait(waits, "the scheduler to find no node")


def test_a_waiting_pod_of_another_plan_changes_nothing_of_a_rollout(
    world: World, operator: OperatorProcess
) -> None:
    rollout = {"surgeTimeoutSeconds": 0}
    loads = {"annotations": {FAIL: "ContainerCreating"}}
    world.apply(replicas=2, rollout=rollout)
    world.wait_ready()
    world.apply(replicas=2, rollout=rollout, pod=loads)
    world.wait(lambda: len(world.list("Pod")) == 3, "the pod beside the old ones")
    make_waiting_pod_of_another_plan(world)
    world.apply(replicas=3, rollout=rollout, pod=loads)  # a visit that writes the Deployment
    world.wait(lambda: world.get("Deployment")["spec"]["replicas"] == 3, "the scaling")
    rolling = world.get("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}
    world.wait_condition("Progressing", "True", "Loading")
