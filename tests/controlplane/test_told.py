"""What people see of a life: its steps as events, each told once, and waits that wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.world import World, container
from vllm_operator.lifecycle.notes import STEPS

SLOW = {"annotations": {"localcluster.vllm-operator.io/ready-delay": "4s"}}
OLD, NEW = "vllm/vllm-openai:v0.30.0", "vllm/vllm-openai:v0.31.0"


def steps(world: World) -> Mapping[str, int]:
    """How often each step is told; Loading is left to the machine's speed."""
    told = [event["reason"] for event in world.list("Event")]
    return Counter(reason for reason in told if reason in STEPS - {"Loading"})


def kubectl_wait(world: World, condition: str) -> None:
    what = ("wait", "vllm/qwen", f"--for=condition={condition}", "--timeout=60s")
    world.cluster.kubectl(*what, "--namespace", world.namespace, timeout=70)


def serves(world: World, image: str) -> bool:
    """Whether every pod that is there is of that image."""
    images = [pod["spec"]["containers"][0]["image"] for pod in world.list("Pod")]
    return images == [image]


def test_the_steps_of_a_life_are_told_once_and_not_again_by_another_operator(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    world.wait_ready()
    assert steps(world) == {"Planned": 1, "Ready": 1}
    world.patch("VLLMServer", "qwen", {"spec": {"replicas": 2}})
    world.wait_ready()
    (note,) = [one["note"] for one in world.list("Event") if one["reason"] == "Scaled"]
    assert note == "from 1 to 2 replicas"
    operator.kill()
    operator.start()
    world.patch("VLLMServer", "qwen", {"spec": {"replicas": 1}})
    world.wait_ready()
    assert steps(world) == {"Planned": 1, "Ready": 3, "Scaled": 2}


def test_a_server_that_waits_for_a_gpu_says_so_by_an_event(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(gpu={"product": "A100", "perNode": 8})
    world.wait_condition("Progressing", "True", "WaitingForGPU")
    assert steps(world) == {"Planned": 1, "WaitingForGPU": 1}


def test_kubectl_wait_for_ready_after_an_edit_waits_for_the_edit(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(engine={"image": OLD}, pod=SLOW)
    world.wait_ready()
    world.patch("VLLMServer", "qwen", {"spec": {"engine": {"image": NEW}}})
    kubectl_wait(world, "Ready")
    assert serves(world, NEW)


def test_the_status_that_calls_a_replan_up_to_date_is_not_ready_before_its_pods_are(
    world: World, start_operator: StartOperator
) -> None:
    operator = start_operator(world, default_image=OLD)
    world.apply(pod=SLOW)
    world.wait_ready()
    operator.kill()
    start_operator(world, default_image=NEW)
    world.wait_condition("UpdateAvailable", "True")
    replan = {"metadata": {"annotations": {"vllm-operator.io/replan": "now"}}}
    world.patch("VLLMServer", "qwen", replan)
    kubectl_wait(world, "UpdateAvailable=False")
    assert container(world.get("Deployment"))["image"] == NEW
    assert world.condition("Ready")["status"] == "False"
    kubectl_wait(world, "Ready")
    assert serves(world, NEW)
