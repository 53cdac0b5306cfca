"""A trial with the operator killed after each of its writes comes to what it would have come to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.chart import install_chart
from localcluster.cluster import Cluster
from stories.gate import Gate
from support.operating import OperatorProcess
from support.trials import DIRECTED, STABLE, TRIED, direct, pods, serve, trials, try_out, wait_over
from support.world import World

CRDS = Path(__file__).parents[2] / "crds"
FEWEST = 6
"""A trial, its pod's budget, the Deployment and the status; and again at its end."""


class Mortal:
    """An operator that is killed after each write and comes back."""

    def __init__(self) -> None:
        self.operator: OperatorProcess | None = None
        self.writes: list[str] = []
        self._guard = threading.Lock()

    def wrote(self, what: str) -> bool:
        """Whether it may hear of its write: never, once it is told to die."""
        with self._guard:
            if self.operator is None:
                return True
            self.writes.append(what)
            self.operator.kill()
            self.operator.start(wait=False)
            return False


@pytest.fixture(scope="module")
def gpus() -> Iterator[Cluster]:
    """A cluster whose pods are statuses."""
    with Cluster(manifests=[CRDS]) as running:
        running.add_gpu_node("h100-0")
        yield running


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("end", ["STABLE", "PROMOTED"])
def test_a_trial_ends_the_same_when_the_operator_is_killed_after_each_of_its_writes(
    gpus: Cluster, tmp_path: Path, end: str
) -> None:
    name = f"killed-{end.lower()}"
    gpus.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    world, mortal = World(gpus, name), Mortal()
    values = {"namespaces": [name], "crds": {"install": False}}
    own = install_chart(gpus, values, release=name, namespace=name)
    with (
        Gate(gpus, mortal.wrote) as gate,
        OperatorProcess(
            gpus, gate.kubeconfig(own), tmp_path / "log", namespaces=name, **DIRECTED
        ) as operator,
    ):
        before = serve(world)
        mortal.operator = operator
        trial = try_out(world)
        direct(world, end)
        if end == "STABLE":
            wait_over(world, timeout=180)
            assert sorted(pod["metadata"]["uid"] for pod in pods(world, STABLE)) == before
        else:
            world.wait(lambda: len(pods(world, TRIED)) == 2 and not pods(world, STABLE), end, 180)
            assert trial["metadata"]["uid"] in [p["metadata"]["uid"] for p in pods(world, TRIED)]
        world.wait_ready(timeout=180)
        mortal.operator = None
    assert len(trials(world)) == 1
    assert len(mortal.writes) >= FEWEST, mortal.writes
