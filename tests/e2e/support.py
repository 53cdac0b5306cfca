"""What a person does on a cluster with real nodes: helm, kubectl exec, and a look at the pods."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localcluster import Cluster, binaries
from localcluster.chart import CHART
from localcluster.client import ApiError
from localcluster.waiting import wait_until
from support.pods import create_namespace, delete_pods, is_ready
from support.world import World

Object = dict[str, Any]
SCRIPTED = "scripted/vllm:v0.30.0"
OPERATOR = "localhost/vllm-operator"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
RELEASE: Object = {"replicas": 2, "hostPathPrefixes": ["/srv"]}
WAIT = 120.0  # seconds in which anything here happens, also on a machine whose cores are busy


class Installation:
    """A release of the chart, with the operator's image that the nodes hold under this tag."""

    def __init__(self, cluster: Cluster, name: str = "vllm-operator") -> None:
        self.cluster = cluster
        self.name = name
        self.namespace = name

    def helm(self, *arguments: str, check: bool = True) -> str:
        """Runs helm as administrator; its output."""
        done = subprocess.run(
            [str(binaries.ensure("helm")["helm"]), *arguments],
            env={
                **self.cluster.environment,
                "KUBECONFIG": str(self.cluster.kubeconfig),
                "HOME": str(self.cluster.directory),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr + self.explain()
        return done.stdout

    def put(self, tag: str, chart: Path = CHART, **values: Any) -> None:
        """`helm upgrade --install` with these values; returns when its pods are Ready."""
        given = {
            "image": {"repository": OPERATOR, "tag": tag, "pullPolicy": "Never"},
            "hub": {"enabled": False},
            **values,
        }
        file = self.cluster.directory / f"{self.name}-values.json"
        file.write_text(json.dumps(given))
        self.helm(
            *("upgrade", "--install", self.name, str(chart), "--namespace", self.namespace),
            *("--values", str(file), "--wait", "--timeout", f"{WAIT:.0f}s"),
        )

    def remove(self) -> None:
        """`helm uninstall`; returns when its objects are gone."""
        self.helm("uninstall", self.name, "--namespace", self.namespace, "--wait")

    def pods(self) -> list[Object]:
        """The operator's pods that are to stay."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        selector = f"labelSelector=app.kubernetes.io%2Finstance%3D{self.name}"
        items = self.cluster.api("GET", f"{path}?{selector}")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def leader(self) -> str:
        """The pod that acts, which holds the Lease; empty while there is none."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/vllm-operator"
        try:
            holder: str = self.cluster.api("GET", path)["spec"].get("holderIdentity") or ""
        except ApiError as error:
            if error.status != 404:
                raise
            return ""
        return next((n for n in map(name_of, self.pods()) if holder.startswith(n)), "")

    def explain(self) -> str:
        """What its pods say of themselves, for a failed test."""
        arguments = ("--namespace", self.namespace)
        said = self.cluster.kubectl("describe", "pods", *arguments, check=False).stdout[-4000:]
        for pod in map(name_of, self.pods()):
            logs = self.cluster.kubectl("logs", pod, *arguments, "--tail=30", check=False)
            said += f"\n{pod}:\n{logs.stdout}{logs.stderr}"
        return said


def name_of(one: Mapping[str, Any]) -> str:
    """An object's name."""
    return str(one["metadata"]["name"])


def serve(world: World, name: str = "qwen", **spec: Any) -> None:
    """A server of the scripted engine; `variables` are what it is told to play."""
    variables = spec.pop("variables", {})
    engine = {
        "image": SCRIPTED,
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        **spec.pop("engine", {}),
    }
    world.apply(name, engine=engine, rollout={"drainSeconds": 1, **spec.pop("rollout", {})}, **spec)


def ready(world: World, name: str = "qwen") -> Object:
    """The server, once it is Ready."""
    return world.wait_ready(name, timeout=WAIT)


def standing(world: World, name: str = "qwen") -> list[Object]:
    """The pods of a server that are to stay."""
    return [
        pod
        for pod in world.list("Pod")
        if pod["metadata"]["labels"].get("vllm-operator.io/server") == name
        and "deletionTimestamp" not in pod["metadata"]
        and pod["status"].get("phase") not in ("Failed", "Succeeded")
    ]


def the_pod(world: World, name: str = "qwen") -> Object:
    """The one pod of a server."""
    (pod,) = standing(world, name)
    return pod


def serving(world: World, name: str = "qwen") -> int:
    """How many pods of a server are Ready."""
    return sum(
        is_ready(pod)
        for pod in world.list("Pod")
        if pod["metadata"]["labels"].get("vllm-operator.io/server") == name
    )


def lives(world: World) -> dict[str, tuple[int, str]]:
    """Of each engine's pod its uid, how often it was restarted, and its container's id."""
    return {
        pod["metadata"]["uid"]: (
            pod["status"]["containerStatuses"][0]["restartCount"],
            pod["status"]["containerStatuses"][0].get("containerID", ""),
        )
        for server in world.list("VLLMServer")
        for pod in standing(world, name_of(server))
    }


def ask(world: World, url: str, body: object = None, name: str = "qwen") -> Object:
    """What an HTTP server answers to a client in a pod: asked from inside the server's own pod."""
    script = (
        "import json, sys, urllib.request as r;"
        "u, b = sys.argv[1], sys.argv[2].encode() or None;"
        "q = r.Request(u, b, {'content-type': 'application/json'});"
        "print(r.urlopen(q, timeout=60).read().decode())"
    )
    sent = "" if body is None else json.dumps(body)
    pod = name_of(the_pod(world, name))
    done = world.cluster.kubectl(
        *("exec", pod, "--namespace", world.namespace, "--"),
        *("python3", "-IS", "-c", script, url, sent),
        timeout=90,
    )
    answer: Object = json.loads(done.stdout)
    return answer


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """The first true value, within the time that anything takes here."""
    return wait_until(condition, what, WAIT, interval=0.2)


@contextmanager
def place(cluster: Cluster, name: str, labels: Mapping[str, str] | None = None) -> Iterator[World]:
    """A namespace; its servers and their pods are gone before the next one."""
    create_namespace(cluster, name, RESTRICTED if labels is None else labels)
    world = World(cluster, name)
    yield world
    for server in map(name_of, world.list("VLLMServer")):
        world.delete("VLLMServer", server)
    delete_pods(cluster, world.path("Pod"), 1)
    eventually(lambda: not world.list("Pod"), f"the pods of {name} to go")
