"""One namespace of a local cluster, and what a person would do in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from localcluster.client import ApiError
from localcluster.cluster import Cluster
from localcluster.waiting import wait_until

from .builders import server_manifest
from .operating import SERVERS

Object = dict[str, Any]
PATHS = {
    "VLLMServer": f"{SERVERS}/namespaces/{{0}}/vllmservers",
    "Deployment": "/apis/apps/v1/namespaces/{0}/deployments",
    "ReplicaSet": "/apis/apps/v1/namespaces/{0}/replicasets",
    "ControllerRevision": "/apis/apps/v1/namespaces/{0}/controllerrevisions",
    "Service": "/api/v1/namespaces/{0}/services",
    "Pod": "/api/v1/namespaces/{0}/pods",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{0}/poddisruptionbudgets",
    "LeaderWorkerSet": "/apis/leaderworkerset.x-k8s.io/v1/namespaces/{0}/leaderworkersets",
    "InferencePool": "/apis/inference.networking.k8s.io/v1/namespaces/{0}/inferencepools",
    "ConfigMap": "/api/v1/namespaces/{0}/configmaps",
    "Event": "/apis/events.k8s.io/v1/namespaces/{0}/events",
}


class World:
    """Reads and writes in one namespace, as administrator."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def path(self, kind: str, name: str = "") -> str:
        """Where objects of a kind are served."""
        return PATHS[kind].format(self.namespace) + (f"/{name}" if name else "")

    def apply(self, name: str = "qwen", **spec: Any) -> Object:
        """Create a server, or replace its specification."""
        manifest = server_manifest(name, self.namespace, **spec)
        live = self.find("VLLMServer", name)
        if live is None:
            return self.cluster.api("POST", self.path("VLLMServer"), manifest)
        manifest["metadata"] = live["metadata"]
        try:
            return self.cluster.api("PUT", self.path("VLLMServer", name), manifest)
        except ApiError as error:
            if error.status != 409:
                raise
            return self.apply(name, **spec)  # a status was written in between

    def patch(self, kind: str, name: str, body: Any, sub: str = "") -> Object:
        """Merge patch, or JSON patch where ``body`` is a list."""
        path = self.path(kind, name) + (f"/{sub}" if sub else "")
        form = "json-patch" if isinstance(body, list) else "merge-patch"
        return self.cluster.api("PATCH", path, body, f"application/{form}+json")

    def create(self, kind: str, body: Object) -> Object:
        """Create an object."""
        return self.cluster.api("POST", self.path(kind), body)

    def find(self, kind: str, name: str) -> Object | None:
        """An object, or None."""
        try:
            return self.cluster.api("GET", self.path(kind, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def get(self, kind: str, name: str = "qwen") -> Object:
        """An object that must be there."""
        found = self.find(kind, name)
        assert found is not None, f"no {kind} {name}"
        return found

    def list(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return list(self.cluster.api("GET", self.path(kind))["items"])

    def delete(self, kind: str, name: str = "qwen") -> None:
        """Delete an object, in the background as kubectl does."""
        self.cluster.api("DELETE", self.path(kind, name), {"propagationPolicy": "Background"})

    def status(self, name: str = "qwen") -> Object:
        """A server's status."""
        return dict(self.get("VLLMServer", name).get("status") or {})

    def condition(self, kind: str, name: str = "qwen") -> Object:
        """One condition of a server; empty before the first visit."""
        return condition_of(self.get("VLLMServer", name), kind)

    def wait(self, condition: Callable[[], Any], what: str, timeout: float = 30) -> Any:
        """The first true value of ``condition``."""
        try:
            return wait_until(condition, what, timeout)
        except TimeoutError as error:
            servers = [(s["metadata"]["name"], s.get("status")) for s in self.list("VLLMServer")]
            error.add_note(json.dumps(servers, indent=1)[:6000])
            raise

    def wait_condition(
        self,
        kind: str,
        status: str,
        reason: str | None = None,
        name: str = "qwen",
        timeout: float = 30,
    ) -> Object:
        """A condition once it has that status (and reason) for the newest generation."""

        def seen() -> Object | None:
            server = self.get("VLLMServer", name)
            condition = condition_of(server, kind)
            fits = condition.get("status") == status and reason in (None, condition.get("reason"))
            newest = condition.get("observedGeneration") == server["metadata"]["generation"]
            return condition if fits and newest else None

        found: Object = self.wait(seen, f"{name} {kind}={status} {reason or ''}", timeout)
        return found

    def wait_ready(self, name: str = "qwen", timeout: float = 30) -> Object:
        """The server, Ready for its newest generation."""
        self.wait_condition("Ready", "True", name=name, timeout=timeout)
        return self.get("VLLMServer", name)

    def args(self, name: str = "qwen") -> list[str]:
        """The engine's command line on the Deployment."""
        return list(container(self.get("Deployment", name))["command"])

    def versions(self) -> Mapping[str, str]:
        """resourceVersions of everything that the operator may write: equal means no write."""
        kinds = (
            "VLLMServer",
            "Deployment",
            "Service",
            "PodDisruptionBudget",
            "ControllerRevision",
            "Event",
        )
        return {
            f"{kind}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for kind in kinds
            for item in self.list(kind)
        }


def condition_of(server: Mapping[str, Any], kind: str) -> Object:
    """One condition of a server; empty before the first visit."""
    conditions = (server.get("status") or {}).get("conditions") or []
    return dict(next((one for one in conditions if one["type"] == kind), {}))


def container(deployment: Mapping[str, Any]) -> Object:
    """The engine's container of a Deployment."""
    return dict(deployment["spec"]["template"]["spec"]["containers"][0])


def flag(command: list[str], name: str) -> str | None:
    """The value of a flag on a command line; empty for a switch, None where it is absent."""
    if name not in command:
        return None
    following = command[command.index(name) + 1 :]
    return following[0] if following and not following[0].startswith("--") else ""
