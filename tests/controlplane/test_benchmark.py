"""A server of a cluster is measured by a Job, under the rights that the page on measuring names.

The Job's pod runs the real script under the node agent; `vllm bench serve` itself is played.
"""

from __future__ import annotations

import json
import signal
import subprocess
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
from scriptedengine.images import scripted
from support.fixtures import StartOperator
from support.pods import pod_place
from support.rights import is_restricted, user
from support.world import World
from vllm_operator.cli.main import main

CRDS = Path(__file__).parents[2] / "crds"
PLAYED = Path(__file__).parent / "data" / "bench"
IMAGE = "measured/vllm:v0.30.0"
SECONDS = 90


@pytest.fixture(scope="module")
def measured_cluster() -> Iterator[Cluster]:
    """A cluster whose images have the scripted engine and a played `vllm bench serve`."""
    engine = scripted("measured/vllm:*")
    python = ["env", f"PYTHONPATH={PLAYED}", sys.executable]
    image = Image(
        engine.pattern,
        programs={**engine.programs, "python3": python},
        entrypoint=engine.entrypoint,
    )
    with Cluster(kwok=False, manifests=[CRDS]) as running:
        labels = {"localcluster.vllm-operator.io/kind": "agent"}
        running.add_agent_node("real-0", [image], count=64, speed=20, labels=labels)
        yield running


@pytest.fixture
def served(measured_cluster: Cluster, start_operator: StartOperator) -> Iterator[World]:
    """A namespace with an operator."""
    with pod_place(measured_cluster) as place:
        world = World(measured_cluster, place.namespace)
        start_operator(world)
        yield world


def serve(world: World, **engine: Any) -> None:
    world.apply(engine={"image": IMAGE, **engine})
    world.wait_ready(timeout=SECONDS)


def vllm_operator(world: World, *arguments: str, kubeconfig: Path | None = None) -> Result:
    environment = {"KUBECONFIG": str(kubeconfig or world.cluster.kubeconfig), "COLUMNS": "140"}
    return CliRunner().invoke(main, [*arguments, "-n", world.namespace], env=environment)


def documented_rules() -> list[Any]:
    (role,) = (yaml.safe_load(block.text) for block in blocks(DOCS / "measuring.md", "yaml"))
    found: list[Any] = role["rules"]
    return found


def test_a_server_is_measured_kept_listed_and_compared_under_the_documented_rights(
    served: World, tmp_path: Path
) -> None:
    serve(served)
    kubeconfig = user(served, tmp_path, documented_rules())
    for number in range(2):
        sweep = ("--sweep", "1,4", "--output-tokens", "50")
        ran = vllm_operator(served, "benchmark", "qwen", *sweep, kubeconfig=kubeconfig)
        assert ran.exit_code == 0, ran.output
        assert "4 at once, 3 runs of 20 requests" in ran.output
        kept = served.get("ConfigMap", "qwen-benchmarks")
        assert len(kept["data"]) == number + 1
    (owner,) = kept["metadata"]["ownerReferences"]
    assert owner["uid"] == served.get("VLLMServer")["metadata"]["uid"]
    first, second = (json.loads(kept["data"][name]) for name in sorted(kept["data"]))
    assert [len(point["runs"]) for point in first["points"]] == [3, 3]
    assert first["plan"]["engine"]["image"] == IMAGE
    assert first["points"][0]["predicted"]["output_throughput"] > 0

    listed = vllm_operator(served, "benchmark", "list", kubeconfig=kubeconfig)
    assert f"qwen/{first['name']}" in listed.output
    picture = tmp_path / "change.svg"
    names = (f"qwen/{first['name']}", "qwen")
    compared = vllm_operator(
        served, "benchmark", "compare", *names, "--svg", str(picture), kubeconfig=kubeconfig
    )
    assert compared.exit_code == 0, compared.output
    assert "plan: no difference" in compared.output
    assert "no difference beyond noise" in compared.output
    assert second["name"] in picture.read_text()


def test_the_next_plan_of_a_server_is_corrected_by_what_was_measured_of_the_one_before(
    measured_cluster: Cluster, start_operator: StartOperator
) -> None:
    with pod_place(measured_cluster) as place:
        world = World(measured_cluster, place.namespace)
        start_operator(world, calibration=True, lease_namespace=world.namespace)
        serve(world)
        ran = vllm_operator(world, "benchmark", "qwen", "--concurrency", "4")
        assert ran.exit_code == 0, ran.output
        load = {"promptTokens": 1024, "outputTokens": 256, "concurrency": 4}
        world.apply(engine={"image": IMAGE, "maxNumSeqs": 64}, workload=load)
        corrected = world.wait(
            lambda: world.status()["plan"]["performance"].get("correction"), "a plan", SECONDS
        )
        result = json.loads(*world.get("ConfigMap", "qwen-benchmarks")["data"].values())
        assert corrected["measuredAt"] == result["at"]
        (point,) = result["points"]
        measured = [run["output_throughput"] for run in point["runs"]]
        ratio = measured[0] / point["predicted"]["output_throughput"]
        assert corrected["outputTokensPerSecond"] == pytest.approx(ratio, rel=0.05)
        # It holds for servers of the kind, and is kept for the next operator.
        kept = world.get("ConfigMap", "vllm-operator-calibration")["data"]
        assert [key for key in kept if key.startswith("speed.")]


def test_whoever_lacks_a_right_is_told_which_and_where_it_stands(
    served: World, tmp_path: Path
) -> None:
    serve(served)
    rules = [rule for rule in documented_rules() if rule["resources"] != ["jobs"]]
    ran = vllm_operator(served, "benchmark", "qwen", kubeconfig=user(served, tmp_path, rules))
    assert ran.exit_code == 2
    assert "you may not create jobs" in ran.output
    assert "docs/measuring.md" in ran.output


def test_a_load_that_fails_is_told_with_the_end_of_its_log(served: World) -> None:
    serve(served, env=[{"name": "PLAYED_BENCH", "value": "fails"}])
    ran = vllm_operator(served, "benchmark", "qwen")
    assert ran.exit_code == 2
    assert "BackoffLimitExceeded" in ran.output
    assert "All requests failed. This is likely due to a misconfiguration" in ran.output
    assert served.find("ConfigMap", "qwen-benchmarks") is None


def jobs(world: World) -> list[Any]:
    path = f"/apis/batch/v1/namespaces/{world.namespace}/jobs"
    return list(world.cluster.api("GET", path)["items"])


def test_an_interrupt_takes_the_job_and_its_pod_away(served: World) -> None:
    serve(served, env=[{"name": "PLAYED_BENCH", "value": "lasts"}])
    command = [sys.executable, "-m", "vllm_operator", "benchmark", "qwen", "-n", served.namespace]
    environment = {
        **served.cluster.environment,
        "KUBECONFIG": str(served.cluster.kubeconfig),
        "PYTHONPATH": str(CRDS.parent / "operator"),
    }
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
        served.wait(
            lambda: any(job["status"].get("ready") for job in jobs(served)), "the Job", SECONDS
        )
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=SECONDS)
    assert running.returncode == 1
    assert "is deleted" in told
    served.wait(lambda: not jobs(served), "the Job to go", SECONDS)
    mine = "vllm-operator.io/benchmark"
    served.wait(
        lambda: not [pod for pod in served.list("Pod") if mine in pod["metadata"]["labels"]],
        "its pod to go",
        SECONDS,
    )


def test_the_job_as_a_manifest_is_accepted_under_restricted_pod_security(
    served: World, tmp_path: Path
) -> None:
    serve(served)
    shown = vllm_operator(served, "benchmark", "qwen", "-o", "yaml")
    assert shown.exit_code == 0, shown.output
    assert is_restricted(served, tmp_path, shown.output)


def test_a_server_that_does_not_serve_is_not_measured(served: World) -> None:
    served.apply(engine={"image": "nobody/vllm:v0.30.0"})
    served.wait(lambda: served.status().get("plan"), "a plan", SECONDS)
    served.wait(lambda: served.find("Deployment", "qwen"), "the Deployment", SECONDS)
    ran = vllm_operator(served, "benchmark", "qwen")
    assert ran.exit_code == 2
    assert "0 of 1 replicas serve" in ran.output


def test_a_server_that_is_not_there_is_named(served: World) -> None:
    ran = vllm_operator(served, "benchmark", "nobody")
    assert ran.exit_code == 2
    assert f"there is no server {served.namespace}/nobody" in ran.output
