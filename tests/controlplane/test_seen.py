"""docs/what-you-see.md is what kubectl prints: columns and rows are the API server's own answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.cluster import Cluster
from support.fixtures import StartOperator
from support.world import World

PAGE = Path(__file__).parents[2] / "docs" / "what-you-see.md"
CRDS = Path(__file__).parents[2] / "crds"
BLOCK = re.compile(r"```console\n\$ (kubectl [^\n]+)\n(.*?)```", re.DOTALL)
LEFT_OUT = "…"

DURATION = re.compile(r"(?<= )(?:\d+m)?\d+s\b(?: \(x\d+ over (?:\d+m)?\d+s\))?|(?<= )\d+m\b")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
HELD = {"annotations": {"localcluster.vllm-operator.io/ready-delay": "2h"}}


def blocks() -> list[tuple[str, str]]:
    """Each command of the page, and what is said that it prints."""
    return BLOCK.findall(PAGE.read_text())


def cells(text: str) -> list[list[str]]:
    """Lines by their columns; what differs between two runs is the same: ages, times, widths."""
    lines = [TIME.sub("TIME", DURATION.sub("AGE", line)) for line in text.splitlines()]
    return [re.split(r" {2,}", line.strip()) for line in lines if line.strip()]


def is_part(block: list[list[str]], whole: list[list[str]]) -> bool:
    size = len(block)
    return any(whole[at : at + size] == block for at in range(len(whole) - size + 1))


@pytest.fixture(scope="module")
def place() -> Iterator[World]:
    """A cluster with one node of eight GPUs, and its namespace ``ai``."""
    with Cluster(manifests=[CRDS]) as cluster:
        cluster.add_gpu_node("h100-0", count=8)
        cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": "ai"}})
        yield World(cluster, "ai")


def live(world: World) -> None:
    """One server of each kind of the page."""
    for name in ("edited", "qwen"):
        world.apply(name)
    for name in ("edited", "qwen"):
        world.wait_ready(name)
    world.apply("edited", engine={"maxModelLen": 100_000})
    world.wait_condition("Ready", "False", "IllegalPin", "edited")
    crash(world, "meshed")
    world.apply("four", replicas=4, parallelism={"tensor": 4})
    world.wait_condition("Ready", "False", "WaitingForGPU", "four")
    world.wait(lambda: world.status("four")["readyReplicas"] == 1, "one of four")
    world.apply("waiting", parallelism={"tensor": 2})
    world.wait_condition("Ready", "False", "WaitingForGPU", "waiting")


def crash(world: World, name: str) -> None:
    """A server whose pod has an injected init container that ends with status 126."""
    world.apply(name, pod=HELD)

    def begun() -> str | None:
        names = [
            pod["metadata"]["name"]
            for pod in world.list("Pod")
            if pod["metadata"]["labels"]["vllm-operator.io/server"] == name
            and pod["status"].get("podIP")
        ]
        return names[0] if names else None

    pod = world.wait(begun, "the pod to be taken up")
    unready = {"imageID": "", "ready": False, "started": False, "restartCount": 3}
    ended = {"terminated": {"exitCode": 126, "reason": "Error", "message": "no token"}}
    init = {
        "name": "mesh-init",
        "image": "example/mesh-init:1",
        **unready,
        "lastState": ended,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
    }
    engine = {
        "name": "engine",
        "image": "",
        **unready,
        "restartCount": 0,
        "state": {"waiting": {"reason": "PodInitializing"}},
    }
    status = {"initContainerStatuses": [init], "containerStatuses": [engine]}
    world.patch("Pod", pod, {"status": status}, "status")
    world.wait_condition("Ready", "False", "ContainerFailed", name)


def test_the_page_shows_what_kubectl_prints(place: World, start_operator: StartOperator) -> None:
    start_operator(place)
    live(place)
    wrong = {}
    for command, said in blocks():
        arguments = command.removeprefix("kubectl ").split()
        printed = place.cluster.kubectl(*arguments, "--namespace", place.namespace).stdout
        whole = cells(printed)
        for part in said.split(LEFT_OUT):
            if not is_part(cells(part), whole):
                wrong[command] = (part, printed)
    assert wrong == {}


def test_the_page_has_each_kind_of_server_in_each_way_to_look_at_it() -> None:
    commands = [command for command, _ in blocks()]
    assert commands[:2] == ["kubectl get vllm", "kubectl get vllm -o wide"]
    described = {command.rpartition(" ")[2] for command in commands[2:]}
    assert described == {"edited", "four", "meshed", "qwen", "waiting"}
