"""What a user would see of the fleet: watches of their own, with the time of each change.

A watch costs the API server less than polling a thousand objects, and its times are exact to the
millisecond. The same watches run beside every operator that is measured. Where the API server ends
one, as it does with watchers that read slower than a large fleet changes, it goes on from the last
version that came, or from a new list where that version is too old to be had.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit

from localcluster.cluster import Cluster

Object = dict[str, Any]
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
WATCH_SECONDS: Final = 7200
PAGE: Final = 500


class TooOld(Exception):
    """The API server no longer has the changes since a resourceVersion."""


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


class Watch:
    """One kind's objects, handed to ``take`` as they change; None for one that is gone."""

    def __init__(
        self,
        get: Callable[[str], AbstractContextManager[http.client.HTTPResponse]],
        path: str,
        take: Callable[[str, Object | None], None],
        seconds: float,
    ) -> None:
        self.version = ""
        """Where to go on: the last resourceVersion that came."""
        self.resumed = 0
        """How often the API server ended it."""
        self._get = get
        self.path = path
        self._take = take
        self._seconds = seconds
        self._names: set[str] = set()

    def list(self) -> None:
        """Take what is there, and what went unseen."""
        found: set[str] = set()
        token = ""
        while True:
            query = urlencode({"limit": PAGE, "continue": token})
            with self._get(f"{self.path}?{query}") as response:
                answer = json.loads(response.read())
            for item in answer["items"]:
                found.add(item["metadata"]["name"])
                self._take(item["metadata"]["name"], item)
            token = answer["metadata"].get("continue", "")
            if not token:
                break
        for name in self._names - found:
            self._take(name, None)
        self._names = found
        self.version = answer["metadata"]["resourceVersion"]

    def follow(self) -> None:
        """Take changes until the API server ends the watch; from a list if it must be."""
        query = {
            "watch": 1,
            "allowWatchBookmarks": "true",
            "resourceVersion": self.version,
            "timeoutSeconds": math.ceil(self._seconds),
        }
        try:
            with self._get(f"{self.path}?{urlencode(query)}") as response:
                # What was sent in part when the connection broke comes again.
                while (line := response.readline()).endswith(b"\n"):
                    self._take_event(json.loads(line))
        except (ConnectionResetError, http.client.IncompleteRead):
            pass
        except TooOld:
            self.list()
        self.resumed += 1

    def _take_event(self, event: Object) -> None:
        body, change = event["object"], event["type"]
        if change == "ERROR":
            raise TooOld if body.get("code") == http.HTTPStatus.GONE else ConnectionError(str(body))
        metadata = body["metadata"]
        if change == "DELETED":
            self._names.discard(metadata["name"])
            self._take(metadata["name"], None)
        elif change != "BOOKMARK":
            self._names.add(metadata["name"])
            self._take(metadata["name"], body)
        self.version = metadata["resourceVersion"]


class View:
    """Facts by name of the servers, Deployments and Services of one namespace, kept by watches."""

    def __init__(
        self, cluster: Cluster, namespace: str, watch_seconds: float = WATCH_SECONDS
    ) -> None:
        self.servers: dict[str, ServerFact] = {}
        self.deployments: dict[str, DeploymentFact] = {}
        self.services: dict[str, str] = {}
        self.servers_visited: set[str] = set()
        self.servers_ready: set[str] = set()
        self.deployments_ready: set[str] = set()
        self._cluster = cluster
        self._namespace = namespace
        self._watch_seconds = watch_seconds
        self.watches: list[Watch] = []
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
            watch = Watch(self._open, path, partial(self._taken, take), self._watch_seconds)
            watch.list()
            self.watches.append(watch)
            thread = threading.Thread(target=self._follow, args=(watch,), daemon=True)
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
        while any(thread.is_alive() for thread in self._threads):
            for connection in [*self._connections]:
                if connection.sock is not None:
                    with contextlib.suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads
            for thread in self._threads:
                thread.join(0.1)

    @property
    def resumed(self) -> int:
        """How often the API server ended a watch, which then went on."""
        return sum(watch.resumed for watch in self.watches)

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
            with self._open(path, METADATA_ONLY) as response:
                items = json.loads(response.read())["items"]
            for item in items:
                metadata = item["metadata"]
                found[f"{path}/{metadata['name']}"] = metadata["resourceVersion"]
        return found

    @contextlib.contextmanager
    def _open(
        self, path: str, accept: str = "application/json"
    ) -> Iterator[http.client.HTTPResponse]:
        kubeconfig = json.loads(Path(self._cluster.kubeconfig).read_text())
        token = kubeconfig["users"][0]["user"]["token"]
        url = urlsplit(self._cluster.server)
        context = ssl.create_default_context(cafile=str(self._cluster.certificate_authority))
        connection = http.client.HTTPSConnection(str(url.hostname), url.port, context=context)
        self._connections.append(connection)
        headers = {"Authorization": f"Bearer {token}", "Accept": accept}
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            if response.status == http.HTTPStatus.GONE:
                raise TooOld(path)
            if response.status != http.HTTPStatus.OK:
                raise ConnectionError(f"GET {path}: {response.status} {response.read()[:300]!r}")
            yield response
        finally:
            self._connections.remove(connection)
            connection.close()

    def _follow(self, watch: Watch) -> None:
        try:
            while not self._closed:
                watch.follow()
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._broken = repr(error)

    def _taken(
        self, take: Callable[[str, Object | None], None], name: str, body: Object | None
    ) -> None:
        with self._lock:
            take(name, body)
            self._check()

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
