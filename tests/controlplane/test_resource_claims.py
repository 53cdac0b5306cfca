"""GPUs that a driver of dynamic resource allocation hands out, by Kubernetes 1.36 itself."""

from __future__ import annotations

import pytest

from localcluster import nodes
from localcluster.client import ApiError
from localcluster.cluster import Cluster
from support.fixtures import StartOperator
from support.world import World

DRIVER = "gpu.example.com"
RESOURCES = "/apis/resource.k8s.io/v1"


def add_claimed_node(cluster: Cluster, name: str, count: int) -> None:
    """A node whose GPUs are devices of a driver: labelled, and without any extended resource."""
    labels = nodes.gpu_labels("NVIDIA-H100-80GB-HBM3", count)
    node = nodes.node(name, labels, {}, "96", "1Ti")
    cluster.api("POST", "/api/v1/nodes", node)
    cluster.wait_for_node(name)
    devices = [{"name": f"gpu-{number}"} for number in range(count)]
    pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
    slice_of_node = {
        "metadata": {"name": f"{name}-gpus"},
        "spec": {"driver": DRIVER, "nodeName": name, "pool": pool, "devices": devices},
    }
    cluster.api("POST", f"{RESOURCES}/resourceslices", slice_of_node)


def claim_gpus(cluster: Cluster, count: int) -> None:
    """The one node's GPUs are devices, which a class hands out as the extended resource."""
    cluster.remove_node("h100-0")
    add_claimed_node(cluster, "claimed-0", count=count)
    selectors = [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}]
    device_class = {
        "metadata": {"name": "gpu"},
        "spec": {"selectors": selectors, "extendedResourceName": "nvidia.com/gpu"},
    }
    cluster.api("POST", f"{RESOURCES}/deviceclasses", device_class)


def test_a_rollout_whose_devices_the_old_pod_has_goes_on_in_its_place(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    claim_gpus(own_cluster, count=1)
    start_operator(own_world)
    own_world.apply(rollout={"surgeTimeoutSeconds": 0})
    own_world.wait_ready(timeout=60)
    (old,) = own_world.list("Pod")
    own_world.apply(rollout={"surgeTimeoutSeconds": 0}, engine={"maxNumSeqs": 64})
    own_world.wait(
        lambda: (
            [pod["metadata"]["uid"] for pod in own_world.list("Pod")]
            not in ([], [old["metadata"]["uid"]])
            and len(own_world.list("Pod")) == 1
        ),
        "the new pod alone",
        timeout=60,
    )
    own_world.wait_ready(timeout=60)
    notes = [one.get("note", "") for one in own_world.list("Event")]
    assert [note for note in notes if "cannot allocate all claims" in note]


def test_a_device_class_that_stands_for_the_extended_resource_gives_pods_their_gpus(
    own_world: World, own_cluster: Cluster, start_operator: StartOperator
) -> None:
    claim_gpus(own_cluster, count=2)
    start_operator(own_world)
    own_world.apply()
    assert own_world.wait_ready(timeout=60)["status"]["summary"]["gpus"] == "1 x H100-80GB-HBM3"
    path = f"{RESOURCES}/namespaces/{own_world.namespace}/resourceclaims"
    (claim,) = own_cluster.api("GET", path)["items"]
    (device,) = claim["status"]["allocation"]["devices"]["results"]
    assert (device["driver"], device["pool"]) == (DRIVER, "claimed-0")


def test_a_claim_in_the_manifest_is_refused_with_the_field_s_name(world: World) -> None:
    manifest = """
apiVersion: vllm-operator.io/v1alpha1
kind: VLLMServer
metadata: {name: qwen}
spec:
  model: {id: Qwen/Qwen2.5-7B-Instruct}
  pod:
    resourceClaims: [{name: gpu, resourceClaimName: mine}]
"""
    ended = world.cluster.kubectl(
        "apply", "-n", world.namespace, "-f", "-", input=manifest, check=False
    )
    assert ended.returncode == 1
    assert 'unknown field "spec.pod.resourceClaims"' in ended.stderr
    for key in ("claims", "gpu.example.com/gpu"):
        resources = {"limits": {key: "1"}}
        with pytest.raises(ApiError, match="resources"):
            world.apply("other", pod={"resources": resources})
