"""Every example, as a person uses it: applied with kubectl to a real cluster, Ready, no difference.

One cluster and one operator for all of them, and a namespace for each example and way to apply it,
which enforces restricted Pod Security.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.chart import install_chart
from localcluster.cluster import Cluster
from support.operating import OperatorProcess
from support.world import World

# The cluster is the module's: one worker runs it all.
pytestmark = pytest.mark.xdist_group("examples")

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
WAYS = {"client-side": (), "server-side": ("--server-side",)}
OTHERS = [
    Path(__file__).parent / "data" / f"{kind}.yaml" for kind in ("httproutes", "inferencepools")
]
CHART = {"inferencePools": {"enabled": True}}
NODES = 12
GPUS_PER_NODE = 8


@dataclass(frozen=True)
class Applied:
    """One example in its namespace, and how kubectl ended that applied it."""

    world: World
    ended: subprocess.CompletedProcess[str]


def documents(example: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(example.read_text()) if document]


def servers(example: Path) -> list[str]:
    return [one["metadata"]["name"] for one in documents(example) if one["kind"] == "VLLMServer"]


def add_volumes(cluster: Cluster, example: Path, namespace: str) -> None:
    """A volume for each claim: nobody provisions any here."""
    for claim in documents(example):
        if claim["kind"] == "PersistentVolumeClaim":
            name = f"{namespace}-{claim['metadata']['name']}"
            volume = {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name},
                "spec": {
                    "accessModes": claim["spec"]["accessModes"],
                    "capacity": claim["spec"]["resources"]["requests"],
                    "claimRef": {"namespace": namespace, "name": claim["metadata"]["name"]},
                    "hostPath": {"path": f"/volumes/{name}"},
                },
            }
            cluster.api("POST", "/api/v1/persistentvolumes", volume)


def apply(cluster: Cluster, example: Path, way: str) -> Applied:
    namespace = f"{way}-{example.stem}"
    modes = ("enforce", "warn")
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in modes}
    metadata = {"name": namespace, "labels": labels}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    cluster.api("POST", "/api/v1/namespaces", body)
    add_volumes(cluster, example, namespace)
    ended = cluster.kubectl("apply", *WAYS[way], "-n", namespace, "-f", str(example), check=False)
    return Applied(World(cluster, namespace), ended)


@pytest.fixture(scope="module")
def applied(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[tuple[Path, str], Applied]]:
    with Cluster(manifests=[ROOT / "crds", *OTHERS]) as cluster:
        for number in range(NODES):
            # Kept for inference, as some clusters do it with half of their nodes.
            taints = [{"key": "dedicated", "value": "inference", "effect": "NoSchedule"}]
            cluster.add_gpu_node(
                f"h100-{number}", count=GPUS_PER_NODE, taints=taints if number % 2 else ()
            )
        log = tmp_path_factory.mktemp("operator") / "operator.log"
        kubeconfig = install_chart(cluster, CHART)
        with OperatorProcess(cluster, kubeconfig, log), ThreadPoolExecutor(4) as pool:
            cases = [(example, way) for example in EXAMPLES for way in WAYS]
            results = pool.map(lambda case: apply(cluster, *case), cases)
            yield dict(zip(cases, results, strict=True))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_becomes_ready_and_shows_no_difference(
    applied: Mapping[tuple[Path, str], Applied], example: Path, way: str
) -> None:
    world, ended = applied[example, way].world, applied[example, way].ended
    assert ended.returncode == 0, ended.stderr
    assert "Warning" not in ended.stderr
    for name in servers(example):
        world.wait_ready(name)
    for options in {(), WAYS[way]}:
        difference = world.cluster.kubectl(
            "diff", *options, "-n", world.namespace, "-f", str(example), check=False
        )
        assert (difference.returncode, difference.stdout) == (0, ""), difference.stderr


@pytest.mark.parametrize("way", WAYS)
def test_the_autoscaled_example_follows_its_autoscaler(
    applied: Mapping[tuple[Path, str], Applied], way: str
) -> None:
    world = applied[ROOT / "examples" / "07-autoscaled.yaml", way].world
    world.wait(
        lambda: world.status("qwen-scaled").get("readyReplicas") == 2, "minReplicas to be ready", 60
    )
    assert world.get("VLLMServer", "qwen-scaled")["spec"]["replicas"] == 2


@pytest.mark.parametrize("way", WAYS)
def test_the_route_to_a_pool_finds_it(
    applied: Mapping[tuple[Path, str], Applied], way: str
) -> None:
    world = applied[ROOT / "examples" / "17-inference-pool.yaml", way].world
    world.wait_condition("Routed", "True", "Applied", name="qwen-pool")
    assert world.find("InferencePool", "qwen-pool") is not None


def test_the_examples_are_numbered_without_gaps() -> None:
    assert [example.name[:3] for example in EXAMPLES] == [
        f"{number:02}-" for number in range(1, len(EXAMPLES) + 1)
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_leaves_the_namespace_to_whoever_applies_it(example: Path) -> None:
    found = documents(example)
    assert servers(example)
    assert not any("namespace" in document["metadata"] for document in found)
