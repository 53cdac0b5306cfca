"""What a server is measured with, where nobody says it and where somebody does."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import make_plan, make_server
from vllm_operator.api.performance import Performance
from vllm_operator.benchmark.load import Load, Point, Wish, load_of, points_of, seed_of
from vllm_operator.errors import InputError

EXPECTED = Performance(
    prompt_tokens=2000,
    output_tokens=300,
    concurrency=48,
    time_to_first_token=0.1,
    inter_token_latency=0.01,
    output_tokens_per_second=3000,
    requests_per_second=10,
    napkin_tokens_per_second=100,
)


def test_lengths_are_those_of_the_specification() -> None:
    server = make_server(workload={"promptTokens": 500, "outputTokens": 100})
    assert load_of(server, make_plan(performance=EXPECTED), Wish()) == Load(500, 100)


def test_lengths_that_the_specification_leaves_out_are_the_plans() -> None:
    assert load_of(make_server(), make_plan(performance=EXPECTED), Wish()) == Load(2000, 300)


def test_lengths_that_nobody_says_are_1024_and_256() -> None:
    assert load_of(make_server(), make_plan(performance=None), Wish()) == Load(1024, 256)


def test_lengths_that_are_given_win() -> None:
    server = make_server(workload={"promptTokens": 500, "outputTokens": 100})
    wish = Wish(prompt_tokens=64, output_tokens=8, shared_prefix_tokens=32)
    assert load_of(server, make_plan(), wish) == Load(64, 8, 32)


def test_a_request_longer_than_the_servers_longest_is_refused_with_one_that_fits() -> None:
    with pytest.raises(InputError, match=r"32768; --prompt-tokens 32512 with that output fits"):
        load_of(make_server(), make_plan(), Wish(prompt_tokens=32768, output_tokens=256))


def test_an_answer_as_long_as_the_longest_request_is_refused() -> None:
    with pytest.raises(InputError, match="leaves no room for a prompt in 32768 tokens"):
        load_of(make_server(), make_plan(), Wish(output_tokens=32768))


def test_a_prefix_as_long_as_the_prompt_is_refused() -> None:
    with pytest.raises(InputError, match=r"--shared-prefix 64 leaves nothing .* at most 63"):
        load_of(make_server(), make_plan(), Wish(prompt_tokens=64, shared_prefix_tokens=64))


@pytest.mark.parametrize(
    ("spec", "performance", "at_once"),
    [
        ({"workload": {"concurrency": 10}}, EXPECTED, 10),
        ({"workload": {"concurrency": 10}, "replicas": 3}, EXPECTED, 30),
        ({"replicas": 2}, EXPECTED, 96),
        ({}, None, 16),
        ({"replicas": 0, "workload": {"concurrency": 10}}, EXPECTED, 10),
    ],
)
def test_requests_at_once_are_those_that_are_expected_of_all_replicas(
    spec: dict[str, Any], performance: Performance | None, at_once: int
) -> None:
    (point,) = points_of(make_server(**spec), make_plan(performance=performance), Wish())
    assert point == Point(max(20, 4 * at_once), concurrency=at_once)


def test_a_sweep_is_measured_in_its_order() -> None:
    points = points_of(make_server(), make_plan(), Wish(sweep=(1, 4, 16)))
    assert points == (Point(20, 1), Point(20, 4), Point(64, 16))


def test_a_rate_is_kept_up_for_a_minute() -> None:
    assert points_of(make_server(), make_plan(), Wish(request_rate=2.5)) == (
        Point(150, request_rate=2.5),
    )


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(request_rate=1.0, concurrency=2), "leave out --concurrency and --sweep"),
        (Wish(request_rate=1.0, sweep=(1, 2)), "leave out --concurrency and --sweep"),
        (Wish(concurrency=1, sweep=(1, 2)), "leave out --concurrency"),
        (Wish(sweep=(4, 1, 4)), "names a load twice: 4, 1, 4"),
        (Wish(sweep=tuple(range(1, 51)), repeats=5), "250 runs.* --repeats 4 fits"),
    ],
)
def test_wishes_that_exclude_each_other_are_refused(wish: Wish, words: str) -> None:
    with pytest.raises(InputError, match=words):
        points_of(make_server(), make_plan(), wish)


def test_no_two_runs_and_no_two_benchmarks_send_the_same_prompts() -> None:
    seeds = {seed_of(name, number) for name in ("one", "other") for number in range(50)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)
