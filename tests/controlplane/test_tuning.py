"""The operator reads a real Prometheus that scrapes a server's engines, and says what it sees."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from enginesimulator.live import Live
from localcluster import Cluster
from support.fixtures import StartOperator
from support.loaded import (
    SHORT_OF_SEQUENCES,
    ready_in_trials,
    server,
    states,
    versions,
)
from support.trials import limits, uids
from support.world import World
from vllm_operator.cli.main import main

# Its binary may have to be built first.
pytestmark = pytest.mark.timeout(1800)
PATIENCE = 280.0
INTERVAL = 0.5
"""Seconds between two scrapes, on a machine that has other tests to run."""
WAY = ["Observing", "Proposed", "Starting", "Warming", "Judging", "Promoting", "Verifying"]


@pytest.fixture
def url(engines: Cluster) -> Iterator[str]:
    yield engines.start_prometheus(scrape_seconds=1)
    engines.stop_prometheus(kill=True)


def generate(world: World) -> None:
    for pod in world.list("Pod"):
        body = json.dumps({"prompt": "two words", "max_tokens": 60}).encode()
        address = f"http://{pod['status']['podIP']}:8000/v1/completions"
        with urllib.request.urlopen(address, body, timeout=5) as answer:
            answer.read()


def condition(world: World, kind: str) -> dict[str, Any]:
    found = world.status().get("conditions", [])
    return next((one for one in found if one["type"] == kind), {})


def test_a_tuned_server_says_what_is_in_the_way_of_learning_from_its_metrics_and_stays_ready(
    engines: Cluster, engine_world: World, start_operator: StartOperator, url: str
) -> None:
    start_operator(engine_world, prometheus_url=url, prometheus_interval=1)
    engine_world.apply(autotune={"mode": "Recommend"}, engine={"image": "scripted/vllm:v0.32.0"})
    engine_world.wait_ready(timeout=60)
    ready = condition(engine_world, "Ready")

    def read() -> bool:
        generate(engine_world)
        return condition(engine_world, "MetricsAvailable").get("reason") == "TooLittleTraffic"

    # A scripted engine answers at once: no time between tokens is not a rate to learn from.
    engine_world.wait(read, "the engine's metrics to be read", timeout=60)
    assert engine_world.status()["tuning"]["state"] == "Observing"
    assert condition(engine_world, "Tuned")["reason"] == "Observing"

    engines.stop_prometheus(kill=True)
    engine_world.wait(
        lambda: condition(engine_world, "MetricsAvailable").get("reason") == "Unreachable",
        "the outage to be told",
        timeout=60,
    )
    engines.start_prometheus(scrape_seconds=1)
    engine_world.wait(read, "the metrics to be read again", timeout=60)
    assert condition(engine_world, "Ready") == ready


def test_a_server_whose_operator_has_no_prometheus_says_so(
    engine_world: World, start_operator: StartOperator
) -> None:
    start_operator(engine_world)
    engine_world.apply(autotune={"mode": "Recommend"}, engine={"image": "scripted/vllm:v0.32.0"})
    engine_world.wait_ready(timeout=60)
    found = condition(engine_world, "MetricsAvailable")
    assert (found["status"], found["reason"]) == ("False", "NotConfigured")
    assert "prometheus.url" in found["message"]


def test_a_server_that_is_short_of_sequences_gets_more_by_a_trial_and_stays_ready_in_it(
    engines: Cluster, engine_world: World, start_operator: StartOperator
) -> None:
    world = engine_world
    url = engines.start_prometheus(scrape_seconds=INTERVAL)
    start_operator(world, prometheus_url=url, prometheus_interval=INTERVAL)
    with Live(SHORT_OF_SEQUENCES) as live:
        world.apply(**server(live.url))
        first = world.wait_ready(timeout=60)
        before = uids(world, "14")
        world.wait_condition("Tuned", "True", "Promoted", timeout=PATIENCE)
    told = versions(world, first)
    assert [*states(told)] == WAY
    assert ready_in_trials(told)
    assert len(before) == 2
    assert uids(world, "14") == []
    one, other = limits(world)
    assert one == other > 14  # how many more is a matter of what was measured
    engines.stop_prometheus(kill=True)


SETTLED = {
    "state": "Settled",
    "since": "2026-01-01T10:00:00Z",
    "reason": "CapNotBinding",
    "diagnosis": {"bound": "Load", "message": "at most 12 of 256 places are asked for"},
}


@pytest.fixture
def settled(world: World) -> World:
    """A server whose tuning has settled, as its status says; no operator acts on it."""
    world.apply(autotune={"mode": "Recommend"})
    world.patch("VLLMServer", "qwen", {"status": {"tuning": SETTLED}}, "status")
    return world


def test_the_wide_list_shows_what_tuning_may_do_and_what_it_does(settled: World) -> None:
    arguments = ("get", "vllm", "--namespace", settled.namespace, "-o", "wide")
    head, row = settled.cluster.kubectl(*arguments).stdout.splitlines()
    assert head.split()[-3:] == ["AUTOTUNE", "TUNING", "MESSAGE"]
    assert row.split()[-2:] == ["Recommend", "Settled"]


def test_a_server_of_a_cluster_is_explained(settled: World) -> None:
    found = CliRunner().invoke(
        main,
        ["explain", "qwen", "-n", settled.namespace],
        env={"KUBECONFIG": str(settled.cluster.kubeconfig), "COLUMNS": "120"},
    )
    assert found.exit_code == 0, found.output
    assert "Settled since 2026-01-01T10:00:00Z" in found.output
    assert "Load: at most 12 of 256 places are asked for" in found.output
