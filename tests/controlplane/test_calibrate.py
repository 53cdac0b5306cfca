"""GPUs are measured by a Job, kept beside the operator, and the next plan rests on them.

The Job's pod is a process under the node agent; the Python in its image is played, as no GPU is
here. `tests/engine/test_calibrate.py` runs the real script.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from docs.support import DOCS, blocks
from localcluster.agent.images import Image
from localcluster.cluster import Cluster
from support.fixtures import StartOperator
from support.pods import pod_place
from support.rights import is_restricted, user
from support.world import World
from vllm_operator.cli.main import main

CRDS = Path(__file__).parents[2] / "crds"
PLAYED = Path(__file__).parent / "data" / "measured_gpu.py"
IMAGE = "measured/vllm:v0.30.0"
KEPT = "vllm-operator-calibration"
L4 = {"product": "NVIDIA-L4"}


@pytest.fixture(scope="module")
def gpu_cluster() -> Iterator[Cluster]:
    """A cluster with a node of L4 whose image's Python tells figures."""
    image = Image(IMAGE, programs={"python3": [sys.executable, str(PLAYED)]})
    with Cluster(kwok=False, manifests=[CRDS]) as running:
        labels = {"localcluster.vllm-operator.io/kind": "agent"}
        running.add_agent_node("l4-0", [image], "NVIDIA-L4", count=4, speed=20, labels=labels)
        yield running


@pytest.fixture
def world(gpu_cluster: Cluster) -> Iterator[World]:
    with pod_place(gpu_cluster) as place:
        yield World(gpu_cluster, place.namespace)


def calibrate(world: World, *arguments: str, kubeconfig: Path | None = None) -> Result:
    environment = {"KUBECONFIG": str(kubeconfig or world.cluster.kubeconfig), "COLUMNS": "140"}
    command = ["calibrate", *arguments, "-n", world.namespace, "--image", IMAGE]
    return CliRunner().invoke(main, command, env=environment)


def documented_rules() -> tuple[list[Any], list[Any]]:
    """The rules of the page's two roles: of the namespace, and of nodes."""
    inside, everywhere = (
        yaml.safe_load(block.text)["rules"] for block in blocks(DOCS / "calibrating.md", "yaml")
    )
    return inside, everywhere


def speed(world: World, name: str) -> dict[str, Any]:
    found: dict[str, Any] = world.status(name)["plan"]["performance"]
    return found


def test_gpus_are_measured_under_the_documented_rights_and_the_next_plan_rests_on_them(
    world: World, start_operator: StartOperator, tmp_path: Path
) -> None:
    operator = start_operator(world, calibration=True, lease_namespace=world.namespace)
    world.apply("before", gpu=L4)
    world.wait(lambda: world.status("before").get("plan"), "a plan")
    ran = calibrate(world, kubeconfig=user(world, tmp_path, *documented_rules()))
    assert ran.exit_code == 0, ran.output
    assert "NVIDIA-L4: fp8 [4096, 4096, 4096]: RuntimeError: played" in ran.output
    assert "50 (41%)" in ran.output
    kept = json.loads(world.get("ConfigMap", KEPT)["data"]["gpu.NVIDIA-L4"])
    assert kept["copy_bandwidth"] == 0.2e12
    operator.kill()
    operator.start()
    world.apply("after", gpu=L4)
    world.wait(lambda: world.status("after").get("plan"), "another plan")
    assert speed(world, "after")["gpuMeasured"] == kept["at"]
    slower = speed(world, "after")["outputTokensPerSecond"]
    assert slower < speed(world, "before")["outputTokensPerSecond"]
    # What runs stays as it is, and is not said to be out of date for a better figure.
    assert "gpuMeasured" not in speed(world, "before")
    assert world.condition("UpdateAvailable", "before")["status"] == "False"
    assert len(world.list("ControllerRevision")) == 2


def test_more_gpus_than_a_node_has_are_refused_before_a_job_is_made(world: World) -> None:
    ran = calibrate(world, "L4", "--gpus", "5")
    assert ran.exit_code == 2
    assert "no node has more than 4 NVIDIA-L4" in ran.output


def test_whoever_may_not_list_nodes_is_told_which_right_is_missing(
    world: World, tmp_path: Path
) -> None:
    inside, _ = documented_rules()
    ran = calibrate(world, kubeconfig=user(world, tmp_path, inside))
    assert ran.exit_code == 2
    assert "you may not list nodes" in ran.output
    assert "docs/calibrating.md" in ran.output


def test_the_jobs_as_a_manifest_are_accepted_under_restricted_pod_security(
    world: World, tmp_path: Path
) -> None:
    shown = calibrate(world, "-o", "yaml")
    assert shown.exit_code == 0, shown.output
    assert is_restricted(world, tmp_path, shown.output)
