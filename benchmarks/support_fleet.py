"""The servers of a measurement: brought up, reacted upon and taken away through the real API."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from support_view import View

from localcluster.client import ApiError
from localcluster.cluster import Cluster
from localcluster.waiting import wait_until

Object = dict[str, Any]

NAMESPACE: Final = "fleet"
SERVERS: Final = f"/apis/vllm-operator.io/v1alpha1/namespaces/{NAMESPACE}/vllmservers"
DEPLOYMENTS: Final = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
SERVICES: Final = f"/api/v1/namespaces/{NAMESPACE}/services"
_GONE: Final = (
    SERVERS,
    DEPLOYMENTS,
    SERVICES,
    f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets",
    f"/apis/apps/v1/namespaces/{NAMESPACE}/controllerrevisions",
    f"/api/v1/namespaces/{NAMESPACE}/pods",
)

MODEL: Final = "Qwen/Qwen2.5-7B-Instruct"
GPU: Final = "NVIDIA-H100-80GB-HBM3"
GPUS_PER_NODE: Final = 128
SPARE_GPUS: Final = GPUS_PER_NODE  # for the pods that a rollout starts beside the old ones
_NAIVE: Final = "naive-operator"


def prepare(cluster: Cluster, servers: int) -> None:
    """The namespace, and nodes with a GPU for each of so many servers."""
    _create_namespace(cluster, NAMESPACE)
    for number in range(math.ceil((servers + SPARE_GPUS) / GPUS_PER_NODE)):
        cluster.add_gpu_node(
            f"h100-{number}", GPU, count=GPUS_PER_NODE, cpu="4096", memory="256Ti", wait=False
        )
    wait_until(
        lambda: all(
            any(c["type"] == "Ready" and c["status"] == "True" for c in _conditions(node))
            for node in cluster.api("GET", "/api/v1/nodes")["items"]
        ),
        "the nodes to be Ready",
        timeout=60,
    )


def install_naive(cluster: Cluster) -> Path:
    """A service account with the rights that the naive operator needs; its kubeconfig."""
    _create_namespace(cluster, _NAIVE)
    metadata = {"name": _NAIVE}
    rules = [
        _rule("vllm-operator.io", ["vllmservers"], ["get", "list", "watch"]),
        _rule("vllm-operator.io", ["vllmservers/status"], ["patch"]),
        # Owners that block deletion: the API server asks for the right to set their finalizers.
        _rule("vllm-operator.io", ["vllmservers/finalizers"], ["update"]),
        _rule("apps", ["deployments"], ["create", "patch"]),
        _rule("", ["services"], ["create", "patch"]),
    ]
    authorization = "/apis/rbac.authorization.k8s.io/v1"
    cluster.api("POST", f"/api/v1/namespaces/{_NAIVE}/serviceaccounts", {"metadata": metadata})
    role = {"metadata": metadata, "rules": rules}
    cluster.api("POST", f"{authorization}/clusterroles", role)
    binding = {
        "metadata": metadata,
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": _NAIVE,
        },
        "subjects": [{"kind": "ServiceAccount", "name": _NAIVE, "namespace": _NAIVE}],
    }
    cluster.api("POST", f"{authorization}/clusterrolebindings", binding)
    path = cluster.directory / f"{_NAIVE}.kubeconfig"
    return cluster.service_account_kubeconfig(_NAIVE, _NAIVE, path)


def identity(kubeconfig: Path) -> str:
    """The user of a service account's kubeconfig, as the audit log names it."""
    context = json.loads(kubeconfig.read_text())["contexts"][0]["context"]
    return f"system:serviceaccount:{context['namespace']}:{context['user']}"


def names(servers: int) -> list[str]:
    """Names of the servers."""
    return [f"server-{number:04d}" for number in range(servers)]


def create_servers(
    cluster: Cluster, servers: int, threads: int, spec: Mapping[str, Any] | None = None
) -> tuple[float, float]:
    """Create servers as fast as the API server takes them; when it began and ended.

    The manifest is the shortest there is, beside ``spec``: a catalogued model, everything else
    decided for it.
    """

    def create(name: str) -> None:
        manifest = {
            "apiVersion": "vllm-operator.io/v1alpha1",
            "kind": "VLLMServer",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"model": {"id": MODEL}, **(spec or {})},
        }
        cluster.api("POST", SERVERS, manifest, timeout=120)

    with ThreadPoolExecutor(threads) as pool:
        began = time.time()
        for done in pool.map(create, names(servers)):
            assert done is None
        return began, time.time()


def delete_servers(cluster: Cluster, timeout: float) -> None:
    """Delete all servers, and wait until the garbage collector has taken what they owned."""
    deadline = time.monotonic() + timeout
    while _count(cluster, SERVERS):
        try:
            cluster.api("DELETE", SERVERS, {"propagationPolicy": "Background"}, timeout=120)
        # Of thousands the API server deletes as many as it can in a minute, then it says so, or
        # hangs up.
        except ApiError as error:
            if error.status != HTTPStatus.GATEWAY_TIMEOUT or time.monotonic() > deadline:
                raise
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
    wait_until(
        lambda: not any(_count(cluster, path) for path in _GONE),
        "everything to be gone",
        timeout=max(1.0, deadline - time.monotonic()),
        interval=0.5,
    )


def _count(cluster: Cluster, path: str) -> int:
    """How many objects there are, without reading them."""
    answer = cluster.api("GET", f"{path}?limit=1", timeout=120)
    return len(answer["items"]) + int(answer["metadata"].get("remainingItemCount") or 0)


def _create_namespace(cluster: Cluster, name: str) -> None:
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


def _conditions(node: Object) -> list[Object]:
    return node["status"].get("conditions") or []


def _rule(group: str, resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


class Reactions:
    """Things that happen to one server, and the seconds until the operator has answered them.

    The clock starts before the request is sent, and ends when a watch delivers the answer.
    """

    def __init__(self, cluster: Cluster, view: View, image: str, timeout: float) -> None:
        self._cluster = cluster
        self._view = view
        self._image = image
        self._timeout = timeout
        self.kinds: dict[str, Callable[[str], float]] = {
            "image edit to the Deployment": self._edit_image,
            "deleted Deployment to its return": self._delete_deployment,
            "deleted Service to its return": self._delete_service,
            "drift of the command to its repair": self._drift,
        }

    def settle(self, name: str) -> None:
        """Wait until the server is Ready with all of its pods, so that it is measured at rest."""
        view = self._view
        settled = view.expect(
            lambda: (
                name in view.servers_ready
                and name in view.deployments_ready
                and name in view.services
            )
        )
        view.wait(settled, f"{name} to be Ready", self._timeout)

    def _edit_image(self, name: str) -> float:
        deployments = self._view.deployments
        return self._measure(
            lambda: self._patch(f"{SERVERS}/{name}", {"spec": {"engine": {"image": self._image}}}),
            lambda: name in deployments and deployments[name].image == self._image,
            f"the Deployment of {name} to run {self._image}",
        )

    def _delete_deployment(self, name: str) -> float:
        deployments = self._view.deployments
        old = deployments[name].uid
        return self._measure(
            lambda: self._delete(f"{DEPLOYMENTS}/{name}"),
            lambda: name in deployments and deployments[name].uid != old,
            f"Deployment {name} to return",
        )

    def _delete_service(self, name: str) -> float:
        services = self._view.services
        old = services[name]
        return self._measure(
            lambda: self._delete(f"{SERVICES}/{name}"),
            lambda: services.get(name, old) != old,
            f"Service {name} to return",
        )

    def _drift(self, name: str) -> float:
        deployments = self._view.deployments
        before = deployments[name]
        path = "/spec/template/spec/containers/0/command/-"
        patch = [{"op": "add", "path": path, "value": "--seed=7"}]
        return self._measure(
            lambda: self._patch(f"{DEPLOYMENTS}/{name}", patch),
            # Two generations on: one for the drift, one for its repair.
            lambda: (
                deployments[name].generation >= before.generation + 2
                and deployments[name].command == before.command
            ),
            f"the command of Deployment {name} to be repaired",
        )

    def _measure(self, act: Callable[[], object], answered: Callable[[], bool], what: str) -> float:
        expectation = self._view.expect(answered)
        began = time.time()
        act()
        return self._view.wait(expectation, what, self._timeout) - began

    def _patch(self, path: str, body: object) -> None:
        form = "json-patch" if isinstance(body, list) else "merge-patch"
        self._cluster.api("PATCH", path, body, f"application/{form}+json")

    def _delete(self, path: str) -> None:
        self._cluster.api("DELETE", path, {"propagationPolicy": "Background"})
