"""Pods that run as real processes, on a local cluster whose nodes are agents."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from localcluster.client import ApiError
from localcluster.cluster import Cluster
from localcluster.waiting import wait_until

Object = dict[str, Any]
NAMES = (f"pods{number}" for number in itertools.count())


def reached_by_services(address: str) -> str:
    """A pod's address, which a Service leads to; where none can, the test is skipped.

    Without the right to give the machine an address, pods have some that the API server takes into
    no EndpointSlice: see ``localcluster.agent.addresses``. All else is tested there too.
    """
    if address.startswith("127."):
        pytest.skip("pods have loopback addresses here, see localcluster.agent.addresses")
    return address


class PodPlace:
    """A namespace whose pods run on nodes of agents, and what tests do in it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.path = f"/api/v1/namespaces/{namespace}"

    def run(self, name: str, *command: str, pod: Object | None = None, **container: Any) -> None:
        """Creates a pod with one container."""
        spec = {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 20,
            "nodeSelector": {"localcluster.vllm-operator.io/kind": "agent"},
            "containers": [
                {
                    "name": "engine",
                    "image": "test/python:3",
                    "command": list(command),
                    "ports": [{"name": "http", "containerPort": 8000}],
                    **container,
                }
            ],
            **(pod or {}),
        }
        metadata = {"name": name, "labels": {"app": name}}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        self.cluster.api("POST", f"{self.path}/pods", body)

    def create(self, resource: str, name: str, **content: Any) -> None:
        """Creates an object of the core group."""
        self.cluster.api("POST", f"{self.path}/{resource}", {"metadata": {"name": name}, **content})

    def claim(self, name: str, directory: str | None = None) -> None:
        """A PersistentVolumeClaim and the volume that it is bound to: empty, or a directory."""
        modes = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        volume = f"{self.namespace}-{name}"
        claimed = {"namespace": self.namespace, "name": name}
        spec = {
            **modes,
            "capacity": {"storage": "100Gi"},
            "claimRef": claimed,
            "hostPath": {"path": directory or f"/{volume}"},
        }
        body = {"metadata": {"name": volume}, "spec": spec}
        self.cluster.api("POST", "/api/v1/persistentvolumes", body)
        request = {"resources": {"requests": {"storage": "100Gi"}}, "volumeName": volume}
        self.create("persistentvolumeclaims", name, spec={**modes, **request})

    def pod(self, name: str) -> Object:
        """A pod as it is."""
        return self.cluster.api("GET", f"{self.path}/pods/{name}")

    def container(self, name: str) -> Object:
        """The first container's status; empty where there is none yet."""
        found: list[Object] = self.pod(name)["status"].get("containerStatuses") or [{}]
        return found[0]

    def waiting(self, name: str) -> str:
        """Why the first container waits; empty where it does not."""
        reason: str = self.container(name).get("state", {}).get("waiting", {}).get("reason", "")
        return reason

    def is_gone(self, name: str) -> bool:
        """Whether there is no such pod any more."""
        items = self.cluster.api("GET", f"{self.path}/pods")["items"]
        return name not in [pod["metadata"]["name"] for pod in items]

    def is_ready(self, name: str) -> bool:
        """Whether a pod is Ready."""
        return is_ready(self.pod(name))

    def wait_ready(self, name: str) -> None:
        """Waits until it is."""
        wait_until(lambda: self.is_ready(name), f"{name} to be Ready", 15)

    def ended(self, name: str) -> Object:
        """How the first container ended when it last did."""

        def terminated() -> Object | None:
            container = self.container(name)
            for field in ("state", "lastState"):
                found: Object | None = container.get(field, {}).get("terminated")
                if found is not None:
                    return found
            return None

        return wait_until(terminated, f"{name} to end", 15)

    def log(self, name: str, query: str = "") -> str:
        """A pod's log, through the API server; `query` such as `previous=true`."""
        text: str = self.cluster.api("GET", f"{self.path}/pods/{name}/log?{query}")["text"]
        return text

    def events(self, name: str) -> list[tuple[str, str]]:
        """(reason, message) of a pod's events."""
        items = self.cluster.api("GET", f"{self.path}/events")["items"]
        return [(e["reason"], e["message"]) for e in items if e["involvedObject"]["name"] == name]

    def wait_event(self, name: str, reason: str, words: str) -> None:
        """Waits for an event with these words in its message."""
        wait_until(
            lambda: any(r == reason and words in message for r, message in self.events(name)),
            f"an event {reason} of {name} with {words!r}",
            15,
        )


def is_ready(pod: Object) -> bool:
    """Whether a pod is Ready."""
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def create_namespace(cluster: Cluster, name: str, labels: Mapping[str, str] | None = None) -> None:
    """A namespace that is ready for pods: its account is there."""
    metadata = {"name": name, "labels": dict(labels or {})}
    cluster.api("POST", "/api/v1/namespaces", {"metadata": metadata})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"

    def exists() -> bool:
        try:
            return bool(cluster.api("GET", account))
        except ApiError:
            return False

    wait_until(exists, f"the account of {name}")


def delete_pods(cluster: Cluster, path: str, seconds: int) -> None:
    """Delete the pods at that path with so much grace; one may be gone by itself by then."""
    for pod in cluster.api("GET", path)["items"]:
        try:
            cluster.api(
                "DELETE", f"{path}/{pod['metadata']['name']}", {"gracePeriodSeconds": seconds}
            )
        except ApiError as error:
            if error.status != 404:
                raise


@contextmanager
def pod_place(cluster: Cluster) -> Iterator[PodPlace]:
    """A new namespace that is ready for pods; its pods go at the end."""
    name = next(NAMES)
    create_namespace(cluster, name)
    found = PodPlace(cluster, name)
    yield found
    delete_pods(cluster, f"{found.path}/pods", 0)
