"""What a user would see of the fleet: watches of their own, with the time of each change.

A watch costs the API server less than polling a thousand objects, and its times are exact to the
millisecond. The same watches run beside every operator that is measured.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from localcluster.cluster import Cluster

Object = dict[str, Any]
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
_WATCH_SECONDS: Final = 7200


@dataclass(frozen=True, slots=True)
class ServerFact:
    """A VLLMServer: whether its newest generation is written to its status, and is Ready."""

    generation: int
    visited: bool
    ready: bool


@dataclass(frozen=True, slots=True)
class DeploymentFact:
    """A Deployment: what reactions are read from, and whether all its pods are ready."""

    uid: str
    generation: int
    image: str
    command: tuple[str, ...]
    ready: bool


def server_fact(body: Object) -> ServerFact:
    """The facts of a VLLMServer."""
    generation, status = body["metadata"]["generation"], body.get("status") or {}
    ready = any(
        condition["type"] == "Ready"
        and condition["status"] == "True"
        and condition["observedGeneration"] == generation
        for condition in status.get("conditions") or []
    )
    return ServerFact(generation, status.get("observedGeneration") == generation, ready)


def deployment_fact(body: Object) -> DeploymentFact:
    """The facts of a Deployment."""
    metadata, spec, status = body["metadata"], body["spec"], body.get("status") or {}
    container = spec["template"]["spec"]["containers"][0]
    wanted = spec.get("replicas", 1)
    ready = (
        status.get("observedGeneration") == metadata["generation"]
        and status.get("updatedReplicas", 0) == wanted == status.get("replicas", 0)
        and status.get("readyReplicas", 0) == wanted
    )
    command = (*(container.get("command") or ()), *(container.get("args") or ()))
    return DeploymentFact(
        metadata["uid"], metadata["generation"], container["image"], command, ready
    )


@dataclass
class _Expectation:
    condition: Callable[[], bool]
    met: threading.Event = field(default_factory=threading.Event)
    at: float = 0.0


class View:
    """Facts by name of the servers, Deployments and Services of one namespace, kept by watches."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.servers: dict[str, ServerFact] = {}
        self.deployments: dict[str, DeploymentFact] = {}
        self.services: dict[str, str] = {}
        self.servers_visited: set[str] = set()
        self.servers_ready: set[str] = set()
        self.deployments_ready: set[str] = set()
        self._cluster = cluster
        self._namespace = namespace
        self._lock = threading.RLock()
        self._expectations: list[_Expectation] = []
        self._connections: list[http.client.HTTPSConnection] = []
        self._threads: list[threading.Thread] = []
        self._broken: str | None = None
        self._closed = False

    def __enter__(self) -> Self:
        inside = f"namespaces/{self._namespace}"
        for path, take in (
            (f"/apis/vllm-operator.io/v1alpha1/{inside}/vllmservers", self._take_server),
            (f"/apis/apps/v1/{inside}/deployments", self._take_deployment),
            (f"/api/v1/{inside}/services", self._take_service),
        ):
            response = self._open(f"{path}?watch=1&timeoutSeconds={_WATCH_SECONDS}")
            thread = threading.Thread(target=self._follow, args=(response, take), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        for connection in self._connections:
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads
        for thread in self._threads:
            thread.join(5)
        for connection in self._connections:
            connection.close()

    def expect(self, condition: Callable[[], bool]) -> _Expectation:
        """Note when ``condition`` first holds; to be called before what makes it true."""
        expectation = _Expectation(condition)
        with self._lock:
            if condition():
                expectation.at = time.time()
                expectation.met.set()
            else:
                self._expectations.append(expectation)
        return expectation

    def wait(self, expectation: _Expectation, what: str, timeout: float) -> float:
        """When the expected came true, in seconds since the epoch; TimeoutError if it does not."""
        deadline = time.monotonic() + timeout
        while not expectation.met.wait(0.5):
            if self._broken is not None:
                raise ConnectionError(f"a watch broke: {self._broken}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"timed out after {timeout:g} s waiting for {what}: {self}")
        return expectation.at

    def __str__(self) -> str:
        return (
            f"{len(self.servers)} servers ({len(self.servers_visited)} visited, "
            f"{len(self.servers_ready)} ready), {len(self.deployments)} Deployments "
            f"({len(self.deployments_ready)} ready), {len(self.services)} Services"
        )

    def resource_versions(self) -> dict[str, str]:
        """resourceVersion of every object that an operator may write, read live."""
        inside = f"namespaces/{self._namespace}"
        found: dict[str, str] = {}
        for path in (
            f"/apis/vllm-operator.io/v1alpha1/{inside}/vllmservers",
            f"/apis/apps/v1/{inside}/deployments",
            f"/apis/apps/v1/{inside}/controllerrevisions",
            f"/api/v1/{inside}/services",
        ):
            response = self._open(path, METADATA_ONLY)
            for item in json.loads(response.read())["items"]:
                metadata = item["metadata"]
                found[f"{path}/{metadata['name']}"] = metadata["resourceVersion"]
        return found

    def _open(self, path: str, accept: str = "application/json") -> http.client.HTTPResponse:
        kubeconfig = json.loads(Path(self._cluster.kubeconfig).read_text())
        token = kubeconfig["users"][0]["user"]["token"]
        url = urlsplit(self._cluster.server)
        context = ssl.create_default_context(cafile=str(self._cluster.certificate_authority))
        connection = http.client.HTTPSConnection(str(url.hostname), url.port, context=context)
        self._connections.append(connection)
        headers = {"Authorization": f"Bearer {token}", "Accept": accept}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise ConnectionError(f"GET {path}: {response.status} {response.read()[:300]!r}")
        return response

    def _follow(
        self, response: http.client.HTTPResponse, take: Callable[[str, Object | None], None]
    ) -> None:
        try:
            while line := response.readline():
                event = json.loads(line)
                body, change = event["object"], event["type"]
                if change == "ERROR":
                    raise ConnectionError(str(body))
                with self._lock:
                    take(body["metadata"]["name"], None if change == "DELETED" else body)
                    self._check()
            reason = "the API server ended it"
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = repr(error)
        if not self._closed:
            self._broken = reason

    def _check(self) -> None:
        for expectation in [one for one in self._expectations if one.condition()]:
            expectation.at = time.time()
            self._expectations.remove(expectation)
            expectation.met.set()

    def _take_server(self, name: str, body: Object | None) -> None:
        fact = server_fact(body) if body else None
        _put(self.servers, name, fact)
        _mark(self.servers_visited, name, fact is not None and fact.visited)
        _mark(self.servers_ready, name, fact is not None and fact.ready)

    def _take_deployment(self, name: str, body: Object | None) -> None:
        fact = deployment_fact(body) if body else None
        _put(self.deployments, name, fact)
        _mark(self.deployments_ready, name, fact is not None and fact.ready)

    def _take_service(self, name: str, body: Object | None) -> None:
        _put(self.services, name, body["metadata"]["uid"] if body else None)


def _put(facts: dict[str, Any], name: str, fact: Any) -> None:
    if fact is None:
        facts.pop(name, None)
    else:
        facts[name] = fact


def _mark(names: set[str], name: str, holds: bool) -> None:
    if holds:
        names.add(name)
    else:
        names.discard(name)
