"""Volumes: what the operator's settings allow, and what a claim's access modes forbid."""

from __future__ import annotations

from typing import Any

from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.world import World, container

MODEL = "Qwen/Qwen2.5-7B-Instruct"


def stored(**storage: Any) -> dict[str, Any]:
    return {"id": MODEL, "storage": storage}


def make_claim(world: World, mode: str) -> None:
    """A claim with a volume of its own: nobody provisions any here."""
    name = f"{world.namespace}-models"
    capacity = {"storage": "100Gi"}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": [mode],
            "capacity": capacity,
            "claimRef": {"namespace": world.namespace, "name": "models"},
            "hostPath": {"path": f"/volumes/{name}"},
        },
    }
    world.cluster.api("POST", "/api/v1/persistentvolumes", volume)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models"},
        "spec": {
            "accessModes": [mode],
            "resources": {"requests": capacity},
            "storageClassName": "",
            "volumeName": name,
        },
    }
    path = f"/api/v1/namespaces/{world.namespace}/persistentvolumeclaims"
    world.cluster.api("POST", path, claim)


CLAIM = {"persistentVolumeClaim": {"claimName": "models"}}


def test_a_folder_of_the_node_is_refused_by_the_name_of_the_setting(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(model=stored(hostPath={"path": "/mnt/models", "mode": "Model"}))
    planned = world.wait_condition("Planned", "False", "IllegalPin")
    assert "spec.model.storage.hostPath.path" in planned["message"]
    assert "hostPathPrefixes" in planned["message"]
    assert world.list("Deployment") == []


def test_a_folder_of_the_node_that_the_chart_allows_is_mounted(
    world: World, start_operator: StartOperator
) -> None:
    start_operator(world, host_path_prefixes="/mnt/models")
    world.apply(model=stored(hostPath={"path": "/mnt/models/qwen", "mode": "Model"}))
    world.wait_ready()
    pod = world.get("Deployment")["spec"]["template"]["spec"]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "model"]
    assert volume["hostPath"]["path"] == "/mnt/models/qwen"


def test_a_checkpoint_in_an_image_becomes_an_image_volume(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(model=stored(image={"reference": "registry.local/qwen:1", "path": "/qwen"}))
    world.wait_ready()
    deployment = world.get("Deployment")
    (volume,) = [
        one for one in deployment["spec"]["template"]["spec"]["volumes"] if one["name"] == "model"
    ]
    assert volume["image"]["reference"] == "registry.local/qwen:1"
    assert container(deployment)["command"][2] == "/models/qwen"


def test_a_volume_of_one_node_is_said_at_planning_and_rolls_in_place_at_once(
    world: World, operator: OperatorProcess
) -> None:
    make_claim(world, "ReadWriteOnce")
    world.apply(model=stored(**CLAIM))
    world.wait_ready()
    assert "models is ReadWriteOnce: updates go in place" in world.condition("Planned")["message"]
    assert world.status()["plan"]["storage"]["accessModes"] == ["ReadWriteOnce"]
    rolling_update = world.get("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling_update == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_volume_that_nodes_share_rolls_beside_the_old_pod(
    world: World, operator: OperatorProcess
) -> None:
    make_claim(world, "ReadWriteMany")
    world.apply(model=stored(**CLAIM))
    world.wait_ready()
    assert world.status()["plan"]["storage"]["surge"] is True
    rolling_update = world.get("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling_update == {"maxSurge": 1, "maxUnavailable": 0}
