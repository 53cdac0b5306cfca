"""Changes: each edit rolls with its reason, and a new release of the operator rolls nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from localcluster.cluster import Cluster
from support.fixtures import StartOperator
from support.operating import SOURCE_ROOT, OperatorProcess
from support.world import World, flag

TEMPLATE = "vllm_operator/manifests/templates/pod.json.j2"
FAIL = "localcluster.vllm-operator.io/fail"


def events(world: World, reason: str) -> list[str]:
    return [event["note"] for event in world.list("Event") if event["reason"] == reason]


def pods(world: World) -> set[str]:
    return {pod["metadata"]["uid"] for pod in world.list("Pod")}


def another_release(folder: Path) -> Path:
    """The operator's source with another pod template."""
    root = folder / "operator"
    shutil.copytree(SOURCE_ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    template = root / TEMPLATE
    line = '"enableServiceLinks": false,'
    assert line in template.read_text()
    template.write_text(template.read_text().replace(line, f'{line} "hostname": "next",'))
    return root


def test_a_release_with_another_template_rolls_nothing_until_it_is_asked_to(
    world: World, operator: OperatorProcess, start_operator: StartOperator, tmp_path: Path
) -> None:
    world.apply()
    world.wait_ready()
    before = world.get("Deployment")["spec"]["template"]
    running = pods(world)
    operator.terminate()
    next_release = {"PYTHONPATH": str(another_release(tmp_path))}
    start_operator(world, environment=next_release)
    world.delete("Service")
    world.wait(lambda: world.find("Service", "qwen"), "the new release to have visited the server")
    assert world.get("Deployment")["spec"]["template"] == before
    assert pods(world) == running
    replan = {"metadata": {"annotations": {"vllm-operator.io/replan": "now"}}}
    world.patch("VLLMServer", "qwen", replan)
    world.wait(
        lambda: world.get("Deployment")["spec"]["template"]["spec"].get("hostname") == "next",
        "the new release's template",
    )


def test_an_edit_rolls_with_the_first_difference_as_the_reason(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(engine={"maxNumSeqs": 256})
    world.wait_ready()
    world.apply(engine={"maxNumSeqs": 128}, pod={"annotations": {FAIL: "ContainerCreating"}})
    reason = "spec.engine.maxNumSeqs: 256 -> 128 (and 1 more)"
    world.wait(lambda: reason in world.condition("Progressing")["message"], "the stated reason")
    world.wait(
        lambda: any(note.startswith(reason) for note in events(world, "Replanned")), "its event"
    )
    world.apply(engine={"maxNumSeqs": 128})
    world.wait_ready()
    assert flag(world.args(), "--max-num-seqs") == "128"
    assert world.condition("Progressing")["message"] == "1 of 1 replicas are up to date"


def test_a_server_that_waits_for_gpus_says_how_many_are_seen(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    start_operator(own_world)
    own_world.apply("first", gpu={"product": "H100"}, replicas=6)
    own_world.wait_ready("first", timeout=60)
    own_world.apply(gpu={"product": "H100"}, parallelism={"tensor": 4})
    waiting = own_world.wait_condition("Progressing", "True", "WaitingForGPU", timeout=60)
    seen = "1 node has 8, model servers that this operator sees hold 6"
    assert f"no node with 4 free NVIDIA-H100-80GB-HBM3 for a replica ({seen})" in waiting["message"]
