"""Simulated engines behind processes: who holds a connection has its share of the load."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from enginesimulator.live import Live
from localcluster.waiting import wait_until
from scriptedengine import plays
from scriptedengine.serving import Engine
from support.loaded import SHORT_OF_SEQUENCES

FOURTEEN = {
    "--max-num-seqs": "14",
    "--max-num-batched-tokens": "8192",
    "--gpu-memory-utilization": "0.92",
}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(clock: Clock) -> Iterator[Live]:
    with Live(SHORT_OF_SEQUENCES, clock) as found:
        yield found


def value(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def in_flight(text: str) -> object:
    """Requests that run or wait; one or two are on their way to it."""
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    return pytest.approx(sum(value(text, name) for name in names), abs=2)


def test_each_engine_has_its_share_and_counts_as_time_passes(live: Live, clock: Clock) -> None:
    pods = [live.begin(FOURTEEN) for _ in range(2)]
    clock.now = 5.0
    early = [live.metrics(pod, "m") for pod in pods]
    clock.now = 10.0
    late = [live.metrics(pod, "m") for pod in pods]
    assert [in_flight(text) for text in late] == [22, 22]
    assert all(value(text, "vllm:num_requests_running") <= 14 for text in late)
    for before, after in zip(early, late, strict=True):
        tokens = "vllm:generation_tokens_total"
        assert value(before, tokens) == pytest.approx(value(after, tokens) / 2, rel=0.1)


def test_one_beside_the_replicas_takes_the_place_of_one_that_goes(live: Live, clock: Clock) -> None:
    first, _ = (live.begin(FOURTEEN) for _ in range(2))
    beside = live.begin({**FOURTEEN, "--max-num-seqs": "24", "--max-num-active-seqs": "20"})
    clock.now = 5.0
    assert in_flight(live.metrics(beside, "m")) == 15
    live.end(first)
    clock.now = 10.0
    text = live.metrics(beside, "m")
    assert (beside.place, in_flight(text)) == (0, 22)
    assert 14 < value(text, "vllm:num_requests_running") <= 20


def test_a_scripted_engine_tells_what_is_played_as_long_as_it_lives(
    live: Live, clock: Clock
) -> None:
    command = plays.parse(["m", *(part for flag in FOURTEEN.items() for part in flag)])
    variables = {"SCRIPTED_LOAD": live.url, "SCRIPTED_KV_TOKENS": "32000"}
    engine, other = (Engine(command, variables) for _ in range(2))
    assert engine.load is not None
    assert other.load is not None
    clock.now = 5.0
    text = engine.metrics()
    assert in_flight(text) == 22
    assert in_flight(other.metrics()) == 22
    assert value(text, "process_start_time_seconds") == engine.started
    assert 'num_gpu_blocks="2000"' in text
    assert len(re.findall(r"^vllm:num_requests_running{", text, re.MULTILINE)) == 1
    other.load.let_go()

    def has_all() -> bool:
        clock.now += 1.0
        return in_flight(engine.metrics()) == 44

    wait_until(has_all, "the other's clients to come", 10)
    engine.load.let_go()
