"""A real Prometheus finds the engines of a server, and the operator's source reads them."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator

import pytest

from localcluster import Cluster
from support.fixtures import StartOperator
from support.world import World
from vllm_operator.controller.sources.prometheus import (
    Answer,
    Prometheus,
    PrometheusSettings,
    Wanted,
)
from vllm_operator.engine.versions import Version
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.quality import identity

# Its binary may have to be built first.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def url(engines: Cluster) -> Iterator[str]:
    yield engines.start_prometheus(scrape_seconds=1)
    engines.stop_prometheus(kill=True)


@pytest.fixture
def source(url: str) -> Iterator[Prometheus]:
    found = Prometheus(PrometheusSettings(url))
    yield found
    found.close()


def read(source: Prometheus, world: World, pods: list[str]) -> dict[str, Answer]:
    wanted = [Wanted(world.namespace, pod, Version.parse("0.30.0"), 60) for pod in pods]
    answers = asyncio.run(source.read(wanted, Durations(1)))
    return {pod: answer for (_, pod), answer in answers.items()}


def generate(address: str, tokens: int) -> None:
    body = json.dumps({"prompt": "two words", "max_tokens": tokens}).encode()
    url = f"http://{address}:8000/v1/completions"
    with urllib.request.urlopen(url, body, timeout=5) as answer:
        answer.read()


def test_counters_of_each_engine_are_read_as_its_intervals(
    engines: Cluster, engine_world: World, start_operator: StartOperator, source: Prometheus
) -> None:
    start_operator(engine_world)
    engine_world.apply(replicas=2, engine={"image": "scripted/vllm:v0.30.0"})
    engine_world.wait_ready(timeout=60)
    busy, idle = engine_world.list("Pod")
    names = [pod["metadata"]["name"] for pod in (busy, idle)]

    def told() -> bool:
        generate(busy["status"]["podIP"], 7)
        answers = read(source, engine_world, names)
        assert [answer.problem for answer in answers.values()] == [None, None]
        counted = [one.generated_tokens for one in answers[names[0]].reading.intervals]
        return sum(counted) >= 21 and len(answers[names[1]].reading.intervals) > 3

    engine_world.wait(told, "what was generated to be read", timeout=60)
    readings = [answer.reading for answer in read(source, engine_world, names).values()]
    active = [one for one in readings[0].intervals if one.generated_tokens]
    assert all(one.generated_tokens % 7 == 0 for one in active)
    assert all(one.prompt_tokens * 7 == one.generated_tokens * 2 for one in active)
    assert all(one.finished * 7 == one.generated_tokens for one in active)
    assert all(0.7 < one.seconds < 1.3 for one in active)
    assert sum(one.generated_tokens for one in readings[1].intervals) == 0
    assert [(identity(one.intervals), one.scrapers, one.missing) for one in readings] == [
        (0, (), ())
    ] * 2
    assert source.queries >= 2

    engines.stop_prometheus(kill=True)
    gone = read(source, engine_world, names)
    assert all(answer.problem for answer in gone.values())
    assert all(answer.reading.intervals == () for answer in gone.values())
    engines.start_prometheus(scrape_seconds=1)
    again = read(source, engine_world, names)
    assert [answer.problem for answer in again.values()] == [None, None]
