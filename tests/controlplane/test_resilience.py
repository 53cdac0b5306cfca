"""Faults: nothing rolls by itself, nothing is lost, and two operators are one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from localcluster.cluster import Cluster
from support.crowd import become_ready
from support.fixtures import StartOperator
from support.operating import SOURCE_ROOT
from support.world import World, flag
from vllm_operator.engine.versions import DEFAULT_IMAGE

OLD_DEFAULT = "vllm/vllm-openai:v0.30.0"


def template_of(world: World, name: str = "qwen") -> Any:
    return world.get("Deployment", name)["spec"]["template"]


def test_a_new_gpu_node_rolls_nothing_and_is_said(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    own_cluster.remove_node("h100-0")
    own_cluster.add_gpu_node("l4-0", "NVIDIA-L4", count=8)
    start_operator(own_world)
    model = {"model": {"id": "Qwen/Qwen2.5-32B-Instruct"}, "engine": {"maxModelLen": 16384}}
    own_world.apply(**model)
    own_world.wait_ready()
    before = template_of(own_world)
    assert own_world.status()["summary"]["gpus"] != "1 x H100-80GB-HBM3"
    own_cluster.add_gpu_node("h100-1")
    update = own_world.wait_condition("UpdateAvailable", "True", "PlanDiffers")
    assert "NVIDIA-H100-80GB-HBM3" in update["message"]
    assert own_world.condition("Ready")["status"] == "True"
    assert template_of(own_world) == before
    replan = {"metadata": {"annotations": {"vllm-operator.io/replan": "now"}}}
    own_world.patch("VLLMServer", "qwen", replan)
    own_world.wait(
        lambda: own_world.status()["summary"]["gpus"] == "1 x H100-80GB-HBM3", "the new plan"
    )
    own_world.wait_condition("UpdateAvailable", "False", "UpToDate")


def test_a_changed_catalogue_rolls_nothing_and_is_said(
    world: World, start_operator: StartOperator, tmp_path: Path
) -> None:
    operator = start_operator(world)
    world.apply()
    world.wait_ready()
    before = template_of(world)
    operator.kill()
    source = tmp_path / "source"
    shutil.copytree(SOURCE_ROOT, source)
    gpus = source / "vllm_operator" / "hardware" / "gpus.csv"
    lines = gpus.read_text().splitlines()
    header = lines[0].split(",")
    reported = header.index("reported_gib")
    changed = []
    for line in lines:
        cells = line.split(",")
        if cells[0] == "NVIDIA-H100-80GB-HBM3":
            cells[reported] = "70.00"
        changed.append(",".join(cells))
    gpus.write_text("\n".join(changed) + "\n")
    start_operator(world, environment={"PYTHONPATH": str(source)})
    world.wait_condition("UpdateAvailable", "True", "PlanDiffers")
    assert template_of(world) == before
    assert world.condition("Ready")["status"] == "True"


def test_a_new_release_rolls_nothing_and_is_said(
    world: World, start_operator: StartOperator, tmp_path: Path
) -> None:
    operator = start_operator(world, default_image=OLD_DEFAULT)
    world.apply()
    world.wait_ready()
    before = template_of(world)
    operator.kill()
    source = tmp_path / "source"
    shutil.copytree(SOURCE_ROOT, source)
    package = source / "vllm_operator"
    (package / "__init__.py").write_text('"""The next release."""\n\n__version__ = "0.2.0"\n')
    template = package / "manifests" / "templates" / "pod.json.j2"
    line = '"enableServiceLinks": false,'
    assert line in template.read_text()
    template.write_text(template.read_text().replace(line, f'{line} "hostname": "next",'))
    start_operator(world, environment={"PYTHONPATH": str(source)})
    update = world.wait_condition("UpdateAvailable", "True", "PlanDiffers")
    assert f"image {OLD_DEFAULT} -> {DEFAULT_IMAGE}" in update["message"]
    assert template_of(world) == before
    world.patch("Service", "qwen", {"spec": {"selector": {"a": "b"}}})
    world.wait(lambda: "a" not in world.get("Service")["spec"]["selector"], "the repair")
    assert template_of(world) == before
    world.apply(engine={"maxNumSeqs": 64})
    world.wait_ready()
    assert world.status()["plan"]["engine"]["image"] == OLD_DEFAULT


def test_a_lost_plan_is_made_again_as_it_was(world: World, start_operator: StartOperator) -> None:
    operator = start_operator(world, default_image=OLD_DEFAULT)
    world.apply()
    world.wait_ready()
    before = template_of(world)
    (revision,) = world.list("ControllerRevision")
    operator.kill()
    world.delete("ControllerRevision", revision["metadata"]["name"])
    start_operator(world)
    world.wait(lambda: world.list("ControllerRevision"), "a plan to be pinned")
    world.wait_condition("UpdateAvailable", "True", "PlanDiffers")
    assert template_of(world) == before
    assert world.status()["plan"]["engine"]["image"] == OLD_DEFAULT


def test_a_restarted_api_server_is_survived(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    operator = start_operator(own_world)
    own_world.apply()
    own_world.wait_ready()
    own_cluster.restart_api_server(kill=True)
    own_world.apply(engine={"maxNumSeqs": 64})
    own_world.wait_ready(timeout=60)
    assert flag(own_world.args(), "--max-num-seqs") == "64"
    assert operator.returncode is None


def test_a_deletion_that_no_watch_delivered_is_found_by_the_resync(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    start_operator(own_world, resync_seconds=10)
    own_world.apply()
    own_world.wait_ready()
    own_cluster.stop_api_server()
    own_cluster.start_api_server()
    own_world.delete("Service")
    own_world.wait(lambda: own_world.find("Service", "qwen"), "the Service to return", timeout=60)


def test_dozens_of_servers_at_once_become_ready(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    become_ready(own_world, start_operator(own_world), 40)


def test_of_two_operators_one_acts_and_the_other_takes_over(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    lease = {"leader_election": True, "lease_seconds": 3, "lease_namespace": own_world.namespace}
    first = start_operator(own_world, **lease)
    own_world.wait(lambda: first.metric("vllm_operator_leader") == 1, "the first to lead")
    second = start_operator(own_world, **lease)
    own_world.apply()
    own_world.wait_ready()
    assert second.metric("vllm_operator_leader") == 0
    assert second.metric("vllm_operator_writes_total") == 0
    first.kill()
    own_world.apply(engine={"maxNumSeqs": 64})
    own_world.wait_ready(timeout=60)
    assert flag(own_world.args(), "--max-num-seqs") == "64"
    assert second.metric("vllm_operator_leader") == 1


def test_a_leader_that_is_stopped_hands_over_at_once(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    lease = {"leader_election": True, "lease_seconds": 60, "lease_namespace": own_world.namespace}
    first = start_operator(own_world, **lease)
    own_world.wait(lambda: first.metric("vllm_operator_leader") == 1, "the first to lead")
    second = start_operator(own_world, **lease)
    assert first.terminate() == 0
    own_world.wait(
        lambda: second.metric("vllm_operator_leader") == 1, "the second to lead", timeout=30
    )


def test_an_operator_without_the_right_to_read_nodes_says_what_to_do(
    world: World, start_operator: StartOperator
) -> None:
    start_operator(world, chart={"watchNodes": False}, watch_nodes=False)
    world.apply()
    planned = world.wait_condition("Planned", "False", "UnknownGPU")
    assert "spec.gpu.product" in planned["message"]
    world.apply(gpu={"product": "H100"})
    world.wait_ready()


def test_a_cluster_wide_operator_acts_in_every_namespace(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}}
    own_cluster.api("POST", "/api/v1/namespaces", namespace)
    start_operator(own_world, chart={"namespaces": []})
    elsewhere = World(own_cluster, "elsewhere")
    own_world.apply()
    elsewhere.apply()
    own_world.wait_ready()
    elsewhere.wait_ready()


def test_an_operator_of_two_namespaces_acts_in_both_and_in_no_third(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    for name in ("second", "third"):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        own_cluster.api("POST", "/api/v1/namespaces", namespace)
    both = [own_world.namespace, "second"]
    start_operator(own_world, chart={"namespaces": both}, namespaces=",".join(both))
    worlds = [own_world, World(own_cluster, "second"), World(own_cluster, "third")]
    for one in worlds:
        one.apply()
    for one in worlds[:2]:
        one.wait_ready()
    assert worlds[2].status() == {}


def test_a_namespace_that_is_gone_does_not_stop_the_others(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    both = f"gone,{own_world.namespace}"
    start_operator(own_world, namespaces=both)
    own_world.apply()
    own_world.wait_ready()
