"""Volumes: what the operator's settings allow, and what a claim's access modes forbid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from controlplane.conftest import CRDS
from localcluster.cluster import Cluster
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


def make_class(world: World, driver: str = "disk.example.com") -> str:
    """A class of the test's own whose volumes are made once a pod has a node."""
    name = f"{world.namespace}-fast"
    body = {
        "metadata": {"name": name},
        "provisioner": driver,
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    world.cluster.api("POST", "/apis/storage.k8s.io/v1/storageclasses", body)
    return name


def claims(world: World) -> list[dict[str, Any]]:
    path = f"/api/v1/namespaces/{world.namespace}/persistentvolumeclaims"
    return list(world.cluster.api("GET", path)["items"])


def provision(world: World, claim: dict[str, Any]) -> None:
    """What the class's driver does: a volume of a claim's size, bound to it."""
    names = {"namespace": world.namespace, "name": claim["metadata"]["name"]}
    spec = {
        "accessModes": claim["spec"]["accessModes"],
        "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
        "claimRef": {**names, "uid": claim["metadata"]["uid"]},
        "storageClassName": claim["spec"]["storageClassName"],
        "hostPath": {"path": "/volumes"},
        "persistentVolumeReclaimPolicy": "Retain",
    }
    body = {"metadata": {"name": claim["metadata"]["uid"]}, "spec": spec}
    world.cluster.api("POST", "/api/v1/persistentvolumes", body)


def test_the_platform_s_storage_class_gives_each_pod_a_volume_of_its_weights_size(
    world: World, start_operator: StartOperator
) -> None:
    name = make_class(world)
    default = {"model": {"storage": {"ephemeral": {"storageClassName": name}}}}
    start_operator(world, defaults=json.dumps(default))
    world.apply(model={"id": MODEL})
    world.wait(lambda: claims(world), "the pod's claim")
    (claim,) = claims(world)
    assert claim["spec"]["storageClassName"] == name
    assert claim["spec"]["resources"]["requests"] == {"storage": "17Gi"}
    assert claim["metadata"]["ownerReferences"][0]["kind"] == "Pod"
    provision(world, claim)
    world.wait_ready()
    plan = world.status()["plan"]
    assert [one["field"] for one in plan["defaults"]] == ["spec.model.storage"]
    assert plan["storage"]["volumeBytes"] == 17 * 2**30
    rolling_update = world.get("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling_update == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_quota_that_refuses_the_pod_s_claim_is_told_as_such_and_lets_go_when_it_is_raised(
    world: World, operator: OperatorProcess
) -> None:
    name = make_class(world)
    quotas = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
    quota = {"metadata": {"name": "disks"}, "spec": {"hard": {"requests.storage": "1Gi"}}}
    world.cluster.api("POST", quotas, quota)
    counted = f"{quotas}/disks"
    world.wait(lambda: world.cluster.api("GET", counted).get("status", {}).get("used"), "the quota")
    world.apply(model=stored(ephemeral={"storageClassName": name}))
    told = world.wait_condition("Progressing", "True", "QuotaExceeded", timeout=60)["message"]
    assert "ResourceQuota disks has no room for the claim of the pod's volume cache" in told
    assert claims(world) == []
    world.cluster.api("DELETE", counted)
    world.wait(lambda: claims(world), "the pod's claim", timeout=60)
    provision(world, claims(world)[0])
    world.wait_ready(timeout=60)


def test_while_a_volume_is_made_for_the_node_the_claim_is_what_is_waited_for(
    world: World, operator: OperatorProcess
) -> None:
    world.apply(model=stored(ephemeral={"storageClassName": make_class(world)}))
    told = world.wait_condition("Progressing", "True", "Preparing")
    (claim,) = claims(world)
    assert f"1 waiting for claim {claim['metadata']['name']} and its volume" in told["message"]
    provision(world, claim)
    world.wait_ready()


@pytest.fixture
def later_world() -> Iterator[World]:
    """Where the scheduler looks for volumes' drivers, as that of Kubernetes 1.37 does by itself."""
    with Cluster(manifests=[CRDS], feature_gates=["VolumeLimitScaling"]) as cluster:
        cluster.add_gpu_node("h100-0", count=8)
        cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": "later"}})
        yield World(cluster, "later")


def test_nodes_without_the_driver_of_a_volume_are_told_with_its_name(
    later_world: World, start_operator: StartOperator
) -> None:
    world, driver = later_world, "disk.example.com"
    body = {"metadata": {"name": driver}, "spec": {"preventPodSchedulingIfMissing": True}}
    world.cluster.api("POST", "/apis/storage.k8s.io/v1/csidrivers", body)
    start_operator(world)
    world.apply(model=stored(ephemeral={"storageClassName": make_class(world, driver)}))
    told = world.wait_condition("Progressing", "True", "Unschedulable", timeout=60)["message"]
    assert "disk.example.com CSI driver is not installed on the node" in told
    assert "have it installed on the nodes, or choose other nodes in spec.pod.nodeSelector" in told
