"""The local cluster itself: what the other control-plane tests stand on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster import (
    ApiError,
    Cluster,
    KubectlError,
    LocalClusterError,
    StartError,
    binaries,
)
from localcluster.waiting import wait_until

TOOLS = Path(__file__).resolve().parents[2] / "tools"
pytestmark = pytest.mark.xdist_group("localcluster")
ANNOTATION = "localcluster.vllm-operator.io"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(audit=True) as running:
        running.add_gpu_node("gpu-a", count=8)
        yield running


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"test-{time.time_ns()}"
    cluster.kubectl("create", "namespace", name)
    # Pods need the account `default`, which the controller manager makes.
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    wait_until(lambda: exists(cluster, account), f"{account} to exist")
    yield name
    # Not left to the namespace's own deletion: the next test needs the GPUs.
    cluster.kubectl("delete", "deployments,pods", "--all", "--namespace", name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def exists(cluster: Cluster, path: str) -> bool:
    try:
        return bool(cluster.api("GET", path))
    except ApiError as error:
        if error.status != 404:
            raise
        return False


def deployment(gpus: int, replicas: int = 1, **annotations: str) -> dict[str, Any]:
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.30.0",
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
    }
    metadata = {
        "labels": {"app": "server"},
        "annotations": {
            f"{ANNOTATION}/{name.replace('_', '-')}": value for name, value in annotations.items()
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "server"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "server"}},
            "template": {"metadata": metadata, "spec": {"containers": [container]}},
        },
    }


def apply(cluster: Cluster, namespace: str, manifest: dict[str, Any]) -> None:
    cluster.kubectl("apply", "--namespace", namespace, "-f", "-", input=json.dumps(manifest))


def status(cluster: Cluster, namespace: str) -> dict[str, Any]:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/server"
    found: dict[str, Any] = cluster.api("GET", path).get("status", {})
    return found


def pods(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.api("GET", f"/api/v1/namespaces/{namespace}/pods")[
        "items"
    ]
    return found


def waiting_reason(cluster: Cluster, namespace: str) -> str | None:
    """Why the first container of the only pod waits, if it does."""
    for pod in pods(cluster, namespace):
        for container in pod["status"].get("containerStatuses", []):
            reason: str | None = container["state"].get("waiting", {}).get("reason")
            return reason
    return None


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def wait_ready(cluster: Cluster, namespace: str, replicas: int = 1) -> None:
    wait_until(
        lambda: status(cluster, namespace).get("readyReplicas") == replicas,
        f"{replicas} ready replicas in {namespace}",
    )


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and is only not reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_deployment_with_gpu_limits_becomes_ready_on_a_gpu_node(
    cluster: Cluster, namespace: str
) -> None:
    apply(cluster, namespace, deployment(gpus=4, replicas=2))
    wait_ready(cluster, namespace, 2)
    found = pods(cluster, namespace)
    assert [pod["spec"]["nodeName"] for pod in found] == ["gpu-a", "gpu-a"]
    assert len({pod["status"]["podIP"] for pod in found}) == 2
    assert cluster.get("pods", namespace=namespace, selector="app=server")["items"]


def test_a_pod_that_wants_more_gpus_than_a_node_has_is_unschedulable(
    cluster: Cluster, namespace: str
) -> None:
    apply(cluster, namespace, deployment(gpus=9))

    def message() -> str | None:
        for pod in pods(cluster, namespace):
            for condition in pod["status"].get("conditions", []):
                if condition["type"] == "PodScheduled" and condition["status"] == "False":
                    assert condition["reason"] == "Unschedulable"
                    return str(condition["message"])
        return None

    assert "Insufficient nvidia.com/gpu" in wait_until(message, "the scheduler's refusal")


def test_a_node_that_is_added_takes_a_waiting_pod_and_one_that_is_removed_is_gone(
    cluster: Cluster, namespace: str
) -> None:
    apply(cluster, namespace, deployment(gpus=12))
    wait_until(lambda: pods(cluster, namespace), "the pod")
    cluster.add_gpu_node("gpu-large", product="NVIDIA-H200", count=16)
    try:
        wait_ready(cluster, namespace)
        labels = cluster.get("node", "gpu-large")["metadata"]["labels"]
        assert labels["nvidia.com/gpu.memory"] == "143771"
    finally:
        cluster.remove_node("gpu-large", delete_pods=True)
    assert not exists(cluster, "/api/v1/nodes/gpu-large")


def test_nodes_of_other_vendors_and_with_taints_are_added_as_they_are_described(
    cluster: Cluster,
) -> None:
    taint = {"key": "amd.com/gpu", "effect": "NoSchedule"}
    product = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}
    cluster.add_gpu_node("amd-a", resource="amd.com/gpu", labels=product, taints=[taint])
    try:
        node = cluster.get("node", "amd-a")
        assert node["status"]["allocatable"]["amd.com/gpu"] == "8"
        assert node["spec"]["taints"] == [taint]
        assert not [name for name in node["metadata"]["labels"] if name.startswith("nvidia.com/")]
    finally:
        cluster.remove_node("amd-a")


def test_a_pod_becomes_ready_when_its_annotation_says(cluster: Cluster, namespace: str) -> None:
    apply(cluster, namespace, deployment(gpus=1, ready_delay="4s"))
    wait_until(
        lambda: waiting_reason(cluster, namespace) == "ContainerCreating",
        "the container being created",
    )
    wait_ready(cluster, namespace)
    found = pods(cluster, namespace)[0]["status"]
    transitions = {
        one["type"]: time.strptime(one["lastTransitionTime"], "%Y-%m-%dT%H:%M:%SZ")
        for one in found["conditions"]
    }
    took = time.mktime(transitions["Ready"]) - time.mktime(transitions["Initialized"])
    assert 3 <= took <= 8  # whole seconds, on a machine with other work


def test_a_pod_waits_for_the_reason_in_its_annotation_until_that_is_removed(
    cluster: Cluster, namespace: str
) -> None:
    apply(cluster, namespace, deployment(gpus=1, fail="ImagePullBackOff"))
    wait_until(lambda: waiting_reason(cluster, namespace) == "ImagePullBackOff", "ImagePullBackOff")
    pod = pods(cluster, namespace)[0]
    assert pod["status"]["phase"] == "Pending"
    assert not is_ready(pod)
    cluster.kubectl(
        "annotate", "pod", pod["metadata"]["name"], f"{ANNOTATION}/fail-", "--namespace", namespace
    )
    wait_ready(cluster, namespace)


def test_a_running_pod_can_be_made_to_crash(cluster: Cluster, namespace: str) -> None:
    apply(cluster, namespace, deployment(gpus=1))
    wait_ready(cluster, namespace)
    name = pods(cluster, namespace)[0]["metadata"]["name"]
    annotations = {
        "fail": "CrashLoopBackOff",
        "fail-reason": "OOMKilled",
        "fail-exit-code": "137",
    }
    pairs = [f"{ANNOTATION}/{key}={value}" for key, value in annotations.items()]
    cluster.kubectl("annotate", "pod", name, *pairs, "--namespace", namespace)
    wait_until(lambda: waiting_reason(cluster, namespace) == "CrashLoopBackOff", "CrashLoopBackOff")
    container = pods(cluster, namespace)[0]["status"]["containerStatuses"][0]
    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert container["lastState"]["terminated"]["exitCode"] == 137
    wait_until(
        lambda: status(cluster, namespace).get("unavailableReplicas") == 1, "no ready replica"
    )


def test_a_service_account_has_the_rights_that_roles_give_it_and_no_others(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    cluster.kubectl("create", "serviceaccount", "reader", "--namespace", namespace)
    kubeconfig = cluster.service_account_kubeconfig(namespace, "reader", tmp_path / "reader")
    assert kubeconfig.stat().st_mode & 0o077 == 0
    with pytest.raises(KubectlError, match=r"forbidden.*cannot list resource \"pods\""):
        cluster.kubectl("get", "pods", kubeconfig=kubeconfig)
    role = ["--verb=list", "--resource=pods", "--namespace", namespace]
    cluster.kubectl("create", "role", "reads", *role)
    binding = ["--role=reads", f"--serviceaccount={namespace}:reader", "--namespace", namespace]
    cluster.kubectl("create", "rolebinding", "reads", *binding)

    def may_list() -> bool:
        return cluster.kubectl("get", "pods", kubeconfig=kubeconfig, check=False).returncode == 0

    wait_until(may_list, "the binding to count")  # the authorizer's cache follows by a watch
    with pytest.raises(KubectlError, match="cannot create resource"):
        cluster.kubectl("create", "configmap", "refused", kubeconfig=kubeconfig)
    answer = cluster.kubectl("auth", "whoami", "-o", "json", kubeconfig=kubeconfig).stdout
    username = json.loads(answer)["status"]["userInfo"]["username"]
    assert username == f"system:serviceaccount:{namespace}:reader"


def test_the_audit_log_tells_who_did_what(cluster: Cluster, namespace: str) -> None:
    apply(cluster, namespace, deployment(gpus=1))
    wait_ready(cluster, namespace)

    def users(verb: str, resource: str) -> set[str]:
        return {
            event["user"]["username"]
            for event in cluster.audit_events()
            if event["verb"] == verb
            and event.get("objectRef", {}).get("namespace") == namespace
            and event["objectRef"]["resource"] == resource
        }

    wait_until(lambda: "admin" in users("create", "deployments"), "the administrator's request")
    controller = "system:serviceaccount:kube-system:replicaset-controller"
    wait_until(lambda: controller in users("create", "pods"), "the controller's request")


def test_a_refused_request_raises_what_the_api_server_said(cluster: Cluster) -> None:
    with pytest.raises(ApiError) as caught:
        cluster.api("GET", "/api/v1/namespaces/default/configmaps/absent")
    assert (caught.value.status, caught.value.reason) == (404, "NotFound")
    with pytest.raises(ApiError) as caught:
        cluster.api("POST", "/api/v1/nodes", {"kind": "Node", "apiVersion": "v1", "metadata": {}})
    assert caught.value.status == 422
    assert "name or generateName is required" in caught.value.message


def test_a_restarted_api_server_has_its_data_and_everything_goes_on() -> None:
    with Cluster(audit=True) as cluster:
        cluster.add_gpu_node("gpu-a")
        cluster.kubectl("create", "configmap", "kept", "--from-literal=a=b")
        server = cluster.server
        for kill in (False, True):
            cluster.stop_api_server(kill=kill)
            with pytest.raises(OSError, match="refused"):
                cluster.api("GET", "/readyz")
            cluster.start_api_server()
        assert cluster.server == server
        assert cluster.get("configmap", "kept")["data"] == {"a": "b"}
        apply(cluster, "default", deployment(gpus=8))
        wait_ready(cluster, "default")


def test_two_clusters_run_side_by_side(cluster: Cluster) -> None:
    with Cluster(kwok=False) as other:
        assert other.server != cluster.server
        assert "kwok" not in other.pids
        other.kubectl("create", "namespace", "only-there")
        assert not exists(cluster, "/api/v1/namespaces/only-there")
        pids, directory = other.pids, other.directory
    assert not directory.exists()
    assert not [name for name, pid in pids.items() if is_alive(pid)]
    with pytest.raises(LocalClusterError, match="not started"):
        other.kubectl("get", "nodes")


def test_custom_resources_given_as_manifests_are_garbage_collected_from_the_start(
    tmp_path: Path,
) -> None:
    manifest = tmp_path / "crd.json"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "owners.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"kind": "Owner", "plural": "owners"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
    manifest.write_text(json.dumps(definition))
    with Cluster(kwok=False, manifests=[manifest]) as cluster:
        owners = "/apis/example.com/v1/namespaces/default/owners"
        owner = {"apiVersion": "example.com/v1", "kind": "Owner", "metadata": {"name": "owner"}}
        uid = cluster.api("POST", owners, owner)["metadata"]["uid"]
        reference = {"apiVersion": "example.com/v1", "kind": "Owner", "name": "owner", "uid": uid}
        owned = {"name": "owned", "ownerReferences": [reference]}
        maps = "/api/v1/namespaces/default/configmaps"
        cluster.api("POST", maps, {"metadata": owned})
        cluster.api("DELETE", f"{owners}/owner")
        wait_until(
            lambda: not exists(cluster, f"{maps}/owned"), "the garbage collection", timeout=15
        )


CHILD = """
import json, sys, time
from localcluster import Cluster
cluster = Cluster().start()
print(json.dumps([cluster.pids, str(cluster.directory)]), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("victim", ["owner", "supervisor"])
def test_nothing_outlives_its_owner_even_when_that_is_killed(victim: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(TOOLS)}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        pids, directory = json.loads(child.stdout.readline())
        try:
            assert len(pids) == 6
            assert all(is_alive(pid) for pid in pids.values())
            os.kill(child.pid if victim == "owner" else pids["supervisor"], signal.SIGKILL)

            def survivors() -> list[str]:
                return [name for name, pid in pids.items() if is_alive(pid)]

            wait_until(lambda: not survivors(), "all processes to be gone", timeout=10)
            if victim == "owner":
                wait_until(lambda: not Path(directory).exists(), "the directory to be gone")
        finally:
            child.kill()
            shutil.rmtree(directory, ignore_errors=True)


def test_a_component_that_cannot_start_is_named_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "kube-apiserver"
    broken.write_text("#!/bin/sh\necho cannot read the flux capacitor >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    logs = tmp_path / "logs"
    cluster = Cluster(log_directory=logs)
    with pytest.raises(StartError, match=r"kube-apiserver ended with status 3[^$]*flux capacitor"):
        cluster.start()
    assert "flux" in (logs / "kube-apiserver.log").read_text()
    with pytest.raises(LocalClusterError, match="not started"):
        cluster.api("GET", "/readyz")


def test_an_exception_in_the_block_says_where_the_logs_are() -> None:
    with pytest.raises(RuntimeError, match="of the test") as caught, Cluster(kwok=False):
        raise RuntimeError("of the test")
    (note,) = caught.value.__notes__
    kept = Path(note.rpartition(" ")[2])
    try:
        assert (kept / "kube-apiserver.log").stat().st_size > 0
    finally:
        for log in kept.iterdir():
            log.unlink()
        kept.rmdir()


def test_the_command_keeps_a_cluster_until_it_is_interrupted() -> None:
    environment = {**os.environ, "PYTHONPATH": str(TOOLS)}
    command = [sys.executable, "-m", "localcluster", "up", "--gpu-nodes=1", "--count=4"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        try:
            line = child.stdout.readline()
            kubeconfig = Path(line.removeprefix("export KUBECONFIG=").strip())
            kubectl = binaries.ensure("kubectl")["kubectl"]
            jsonpath = "-o=jsonpath={.items[*].status.allocatable.nvidia\\.com/gpu}"
            shown = subprocess.run(
                [kubectl, f"--kubeconfig={kubeconfig}", "get", "nodes", jsonpath],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            assert shown.stdout == "4"
            child.send_signal(signal.SIGINT)
            _stdout, stderr = child.communicate(timeout=20)
        finally:
            child.kill()
    assert child.returncode == 0
    assert stderr.endswith("stopped\n")
    assert not kubeconfig.exists()
