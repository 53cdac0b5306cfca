"""A control plane for each test worker, and a namespace with an operator for each test."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from localcluster.chart import install_chart
from localcluster.cluster import Cluster
from scriptedengine.images import scripted
from support.fixtures import StartOperator
from support.operating import OperatorProcess
from support.pods import pod_place
from support.world import World

CRDS = Path(__file__).parents[2] / "crds"
NAMES = (f"t{number}" for number in itertools.count())
H100 = "NVIDIA-H100-80GB-HBM3"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with Ctrl-C ignored, and children inherit that; tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """A cluster with two H100 nodes that the tests of a worker share, each in its namespace."""
    with Cluster(manifests=[CRDS]) as running:
        for number in range(2):
            running.add_gpu_node(f"h100-{number}", H100, count=64, cpu="512", memory="4Ti")
        yield running


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster for a test that changes nodes, restarts the API server or counts requests."""
    with Cluster(manifests=[CRDS], audit=True) as running:
        running.add_gpu_node("h100-0", H100, count=8)
        yield running


@pytest.fixture(scope="package")
def engines() -> Iterator[Cluster]:
    """A cluster whose node runs the scripted engine as real processes."""
    with Cluster(kwok=False, manifests=[CRDS]) as running:
        labels = {"localcluster.vllm-operator.io/kind": "agent"}
        running.add_agent_node("real-0", [scripted()], count=64, speed=20, labels=labels)
        yield running


@pytest.fixture
def engine_world(engines: Cluster) -> Iterator[World]:
    """A namespace of that cluster; its servers and their pods are gone before the next one."""
    with pod_place(engines) as place:
        found = World(engines, place.namespace)
        yield found
        for server in found.list("VLLMServer"):
            found.delete("VLLMServer", server["metadata"]["name"])
        found.wait(lambda: not found.list("ReplicaSet"), "the server's objects to go")


def _namespace(cluster: Cluster, name: str) -> World:
    metadata = {"name": name}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    cluster.api("POST", "/api/v1/namespaces", body)
    return World(cluster, name)


@pytest.fixture
def world(cluster: Cluster) -> Iterator[World]:
    """A namespace of the shared cluster; what its pods hold of the nodes is free afterwards."""
    found = _namespace(cluster, next(NAMES))
    yield found
    for server in found.list("VLLMServer"):
        found.delete("VLLMServer", server["metadata"]["name"])
    for pod in found.list("Pod"):
        if not pod["metadata"].get("ownerReferences"):  # no server's end is that of its own
            found.delete("Pod", pod["metadata"]["name"])


@pytest.fixture
def own_world(own_cluster: Cluster) -> World:
    """A namespace of a cluster of the test's own."""
    return _namespace(own_cluster, next(NAMES))


@pytest.fixture
def start_operator(tmp_path: Path) -> Iterator[StartOperator]:
    """Start operators that act in one namespace, under the chart's rights for just that."""
    with ExitStack() as running:

        def start(world: World, *, chart: dict[str, Any] | None = None, **options: Any) -> Any:
            values = {"namespaces": [world.namespace], "crds": {"install": False}, **(chart or {})}
            kubeconfig = install_chart(
                world.cluster, values, release=world.namespace, namespace=world.namespace
            )
            log = tmp_path / f"operator-{len(list(tmp_path.iterdir()))}.log"
            namespaces = {} if values["namespaces"] == [] else {"namespaces": world.namespace}
            options = {"forked": True, **namespaces, **options}
            process = OperatorProcess(world.cluster, kubeconfig, log, **options)
            return running.enter_context(process)

        yield start


@pytest.fixture
def operator(world: World, start_operator: StartOperator) -> OperatorProcess:
    """An operator of the shared cluster that acts in the test's namespace."""
    return start_operator(world)
