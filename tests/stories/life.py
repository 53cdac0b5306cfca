"""A place for one story: a namespace, an operator, nodes whose pods are processes, and a diary."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from localcluster.chart import install_chart
from localcluster.cluster import Cluster
from localcluster.errors import LocalClusterError
from localcluster.waiting import wait_until
from scriptedengine.images import scripted
from stories.gate import Gate
from stories.table import Row, row
from support.operating import OperatorProcess
from support.pods import PodPlace, pod_place
from support.trials import DIRECTED
from support.world import World
from vllm_operator.lifecycle.notes import STEPS

H100 = "NVIDIA-H100-80GB-HBM3"
A100 = "NVIDIA-A100-SXM4-80GB"
"""No node has it but those of a story."""

OLD, NEW = "scripted/vllm:v0.30.0", "scripted/vllm:v0.31.0"
EMPTY = "empty/vllm:v0.30.0"
"""An image without any program."""
SPEED = 20
PATIENCE = 90.0
EACH = 0
"""Instead of the number of a write: the operator is killed after each of them, in one telling."""
OWNED = ("Deployment", "Service", "PodDisruptionBudget", "ControllerRevision")
_NODES = (f"story-{number}" for number in count())


class Life:
    """What a story does and sees.

    ``killed_after``: the write after which the operator is killed, or `EACH`.

    What the story waits for with `sees` are the conditions of its row's column Meanwhile.
    """

    def __init__(
        self, place: PodPlace, operator: OperatorProcess, told: Row, stack: ExitStack
    ) -> None:
        self.place = place
        self.cluster = place.cluster
        self.world = World(place.cluster, place.namespace)
        self.operator = operator
        self._told = told
        self._stack = stack
        self._seen: set[str] = set()
        self._guard = threading.RLock()
        self._wanted = True
        self.patience = PATIENCE
        """Seconds that the story waits for anything."""
        self.writes: list[str] = []
        self.killed_after: int | None = None

    # The operator

    def operator_goes(self) -> None:
        """Killed, and not started again until `operator_comes`."""
        with self._guard:
            self._wanted = False
            self.operator.kill()

    def operator_comes(self, **options: Any) -> None:
        """Started (again), with other flags where they are given."""
        with self._guard:
            self._wanted = True
            self.operator._options.update(options)
            self.operator.start(wait=False)
        wait_until(lambda: self.operator.get("/readyz") == "ok\n", "the operator", self.patience)

    def obeys(self) -> None:
        """Its tuner does from now on what an annotation says (``support.directed``)."""
        self.operator_goes()
        self.operator.become(**DIRECTED)
        self.operator_comes()

    def reads_metrics(self, interval: float) -> None:
        """It is given a Prometheus with so many seconds between two scrapes, of which what follows
        takes hundreds; twice as many where each write costs the operator its memory: what is told
        of metrics that come late is a write too."""
        if self.killed_after == EACH:
            interval *= 2
        url = self.cluster.start_prometheus(interval)
        self._stack.callback(self._without_prometheus)
        self.operator_goes()
        self.operator_comes(prometheus_url=url, prometheus_interval=interval)
        self.patience *= 10

    def wrote(self, what: str) -> bool:
        """Called after each write of an operator behind a gate; whether it may hear of it."""
        with self._guard:
            self.writes.append(what)
            if self.killed_after not in (EACH, len(self.writes)):
                return True
            self.operator.kill()
            if self._wanted:
                self.operator.start(wait=False)
            return False

    # The server

    def serve(
        self,
        name: str = "qwen",
        *,
        engine: dict[str, Any] | None = None,
        play: dict[str, str] | None = None,
        **spec: Any,
    ) -> None:
        """Create the server, or replace its specification; ``play`` are the engine's variables."""
        image: dict[str, Any] = {"image": OLD}
        if play:
            image["env"] = [{"name": key, "value": value} for key, value in play.items()]
        rollout = {"drainSeconds": 1, **spec.pop("rollout", {})}
        self.world.apply(name, engine={**image, **(engine or {})}, rollout=rollout, **spec)

    def plays(self, play: str) -> list[dict[str, Any]]:
        """Variables of engines whose play is in a ConfigMap: another call changes the next start,
        as a node or a registry does that is mended."""
        data = {"data": {"play": play}}
        path = f"{self.place.path}/configmaps"
        if self.world.find("ConfigMap", "play") is None:
            self.place.create("configmaps", "play", **data)
        else:
            self.cluster.api("PATCH", f"{path}/play", data, "application/merge-patch+json")
        reference = {"name": "play", "key": "play"}
        return [
            {"name": "SCRIPTED_PLAY", "configMapKeyRef": reference},
            {"name": "SCRIPTED_BOOT_SECONDS", "value": "1.5"},
        ]

    def ready(self, name: str = "qwen") -> None:
        """Wait for Ready of the newest generation."""
        self.world.wait_ready(name, timeout=self.patience)

    def sees(self, condition: str, *words: str, name: str = "qwen") -> str:
        """Wait for ``Ready=True Ready`` with these words in what is said, which is returned.

        That is the message of the condition and of ``Ready``: others name the one that says why.
        """
        kind, _, rest = condition.partition("=")
        status, _, reason = rest.partition(" ")
        self._seen.add(condition)

        def said() -> str | None:
            generation = self.world.get("VLLMServer", name)["metadata"]["generation"]
            found = self.world.condition(kind, name)
            fits = (found.get("status"), found.get("reason")) == (status, reason)
            newest = found.get("observedGeneration") == generation
            message = f"{found.get('message')} {self.world.condition('Ready', name).get('message')}"
            return message if fits and newest and all(word in message for word in words) else None

        message: str = self.world.wait(said, f"{condition} with {words} of {name}", self.patience)
        return message

    def pods(self, name: str = "qwen") -> list[dict[str, Any]]:
        """The server's pods that neither go nor have ended."""
        return [
            pod
            for pod in self.world.list("Pod")
            if pod["metadata"]["labels"].get("vllm-operator.io/server") == name
            and "deletionTimestamp" not in pod["metadata"]
            and pod["status"].get("phase") not in ("Failed", "Succeeded")
        ]

    def pod(self, name: str = "qwen") -> dict[str, Any]:
        """The only one."""
        (found,) = self.pods(name)
        return found

    def ask(self, path: str, body: object = None, pod: dict[str, Any] | None = None) -> Any:
        """What the engine of a pod answers, the only one's unless told."""
        address = (pod or self.pod())["status"]["podIP"]
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://{address}:8000{path}", data, timeout=5) as answer:
            return json.loads(answer.read() or b"null")

    def node(self, count: int = 8, name: str = "", play: str = "", product: str = H100) -> str:
        """A node of this story alone: pods come to it by the selector `here`.

        Every engine on it plays ``play``, where that is given.
        """
        name = name or next(_NODES)
        labels = {"story": self.place.namespace}
        image = scripted()
        if play:
            image = replace(image, environment={**image.environment, "SCRIPTED_PLAY": play})
        self.cluster.add_agent_node(
            name, [image], product=product, count=count, speed=SPEED, labels=labels
        )
        self._stack.callback(self._without_node, name)
        return name

    @property
    def here(self) -> dict[str, str]:
        """The node selector of this story's own nodes."""
        return {"story": self.place.namespace}

    def _without_prometheus(self) -> None:
        with suppress(LocalClusterError):  # a story may have stopped it
            self.cluster.stop_prometheus(kill=True)

    def _without_node(self, name: str) -> None:
        self.cluster.agents.stop(name)
        self.cluster.remove_node(name, delete_pods=True)

    def verdicts(self, name: str = "qwen") -> list[str]:
        """On the trials that ended, the newest first."""
        return [one["verdict"] for one in self.world.status(name)["tuning"]["history"]]

    # The end

    def ends_as_told(self, name: str = "qwen") -> None:
        """Holds the story to its row: conditions, events and objects, and nothing beside them."""
        assert self._seen == self._told.meanwhile
        self.world.wait(
            lambda: self._told.finally_ <= self._conditions(name),
            f"{sorted(self._told.finally_)}",
            self.patience,
        )
        told = dict(self._told.objects)
        self.world.wait(lambda: self._objects() == told, f"the objects {told}", self.patience)
        if self.killed_after is None:  # one that was to follow the write is lost otherwise
            with suppress(TimeoutError):
                self.world.wait(lambda: self._events() == self._told.events, "the events", 10)
            assert self._events() == self._told.events
        assert self._events() <= self._told.events
        self._planned_once_each()

    def _planned_once_each(self) -> None:
        """No specification of a server is said to be planned more than once."""
        regarding = [e["regarding"] for e in self.world.list("Event") if e["reason"] == "Planned"]
        for server in self.world.list("VLLMServer"):
            planned = sum(one["uid"] == server["metadata"]["uid"] for one in regarding)
            assert planned <= server["metadata"]["generation"]

    def _conditions(self, name: str) -> set[str]:
        server = self.world.find("VLLMServer", name)
        if server is None:
            return set()
        generation = server["metadata"]["generation"]
        return {
            f"{one['type']}={one['status']} {one['reason']}"
            for one in (server.get("status") or {}).get("conditions", [])
            if one["observedGeneration"] == generation
        }

    def _objects(self) -> dict[str, int]:
        """How many there are by kind: owned ones, and pods that are neither going nor ended."""
        found = Counter[str]()
        for kind in OWNED:
            for item in self.world.list(kind):
                if any(
                    o["kind"] == "VLLMServer" for o in item["metadata"].get("ownerReferences", [])
                ):
                    found[kind] += 1
        names = [server["metadata"]["name"] for server in self.world.list("VLLMServer")]
        found["Pod"] = sum(len(self.pods(name)) for name in names)
        return {kind: number for kind, number in found.items() if number}

    def _events(self) -> set[str]:
        return {
            f"{event['type']} {event['reason']}"
            for event in self.world.list("Event")
            if event["regarding"]["kind"] == "VLLMServer" and event["reason"] not in STEPS
        }


@contextmanager
def living(
    cluster: Cluster, folder: Path, name: str, killed_after: int | None = None
) -> Iterator[Life]:
    """The life of the story with that name, alone in a namespace of the cluster."""
    told = row(name)
    with ExitStack() as stack:
        place = stack.enter_context(pod_place(cluster))
        values = {"namespaces": [place.namespace], "crds": {"install": False}}
        kubeconfig = install_chart(
            cluster, values, release=place.namespace, namespace=place.namespace
        )
        lives: list[Life] = []
        if killed_after is not None:
            gate = stack.enter_context(Gate(cluster, lambda what: lives[0].wrote(what)))
            kubeconfig = gate.kubeconfig(kubeconfig)
        log = folder / f"operator-{place.namespace}.log"
        operator = OperatorProcess(
            cluster, kubeconfig, log, forked=True, namespaces=place.namespace
        )
        life = Life(place, operator, told, stack)
        life.killed_after = killed_after
        if killed_after == EACH:
            life.patience *= 4  # each of a dozen starts of the operator takes its time
        lives.append(life)
        stack.callback(_without_servers, life)
        stack.enter_context(_noted(operator, life))
        yield life


@contextmanager
def _noted(operator: OperatorProcess, life: Life) -> Iterator[None]:
    try:
        with operator:
            try:
                yield
            finally:
                life.operator_goes()  # or its last write starts another one behind our back
    except Exception as error:
        error.add_note(f"its writes: {life.writes}")
        raise


def _without_servers(life: Life) -> None:
    """Delete them, and wait for their children: pods would be made again, or go meanwhile."""
    for server in life.world.list("VLLMServer"):
        life.world.delete("VLLMServer", server["metadata"]["name"])
    for kind in ("Deployment", "Pod"):
        wait_until(lambda kind=kind: not life.world.list(kind), "the servers to go", 60)
