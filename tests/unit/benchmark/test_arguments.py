"""`vllm bench serve`, spelled for the version of the server."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import make_plan
from vllm_operator.api.plan import Plan
from vllm_operator.benchmark.arguments import (
    bench_arguments,
    refuse_pooling,
    runs_of,
    shared,
    tokenizer_of,
    value_of,
)
from vllm_operator.benchmark.load import Load, Point
from vllm_operator.errors import InputError, UnsupportedEngineVersion

URL = "http://qwen.default.svc"


def plan_of(*flags: str, version: str = "0.30.0") -> Plan:
    engine = make_plan().engine
    command = ["vllm", "serve", "org/model", *flags]
    return make_plan(engine={**engine.to_json_object(), "command": command, "version": version})


def arguments(load: Load | None = None, point: Point | None = None, **given: Any) -> list[str]:
    plan = given.get("plan") or plan_of("--served-model-name", "small")
    return bench_arguments(plan, URL, load or Load(100, 20), point or Point(40, 8), seed=7)


def test_prompts_and_answers_have_exactly_the_tokens_that_are_asked() -> None:
    found = arguments()
    assert value_of(found, "--random-input-len") == "100"
    assert value_of(found, "--random-output-len") == "20"
    assert "--ignore-eos" in found
    assert "--random-range-ratio" not in found


def test_a_shared_prefix_is_a_part_of_the_prompt() -> None:
    found = arguments(Load(100, 20, shared_prefix_tokens=60))
    assert value_of(found, "--random-input-len") == "40"
    assert value_of(found, "--random-prefix-len") == "60"


def test_so_many_at_once_are_sent_as_soon_as_others_are_answered() -> None:
    found = arguments(point=Point(40, 8))
    assert value_of(found, "--max-concurrency") == "8"
    assert value_of(found, "--request-rate") == "inf"
    assert value_of(found, "--num-prompts") == "40"


def test_a_rate_has_no_bound_of_requests_at_once() -> None:
    found = arguments(point=Point(40, request_rate=2.5))
    assert "--max-concurrency" not in found
    assert value_of(found, "--request-rate") == "2.5"


def test_requests_name_the_model_as_it_is_served() -> None:
    assert value_of(arguments(), "--model") == "small"


def test_every_percentile_that_is_told_is_asked_for() -> None:
    assert value_of(arguments(), "--metric-percentiles") == "50,90,99"
    assert value_of(arguments(), "--percentile-metrics") == "ttft,tpot,itl,e2el"


def test_the_tokenizer_is_loaded_as_the_server_loads_it() -> None:
    found = arguments(plan=plan_of("--tokenizer-mode", "mistral", "--trust-remote-code"))
    assert value_of(found, "--tokenizer-mode") == "mistral"
    assert "--trust-remote-code" in found
    assert "--trust-remote-code" not in arguments()


@pytest.mark.parametrize(("version", "temperature"), [("0.8.5", None), ("0.12.0", "0")])
def test_answers_are_greedy_where_the_version_does_not_see_to_it_itself(
    version: str, temperature: str | None
) -> None:
    found = arguments(plan=plan_of(version=version))
    assert value_of(found, "--temperature") == temperature


def test_a_version_before_the_first_that_was_read_is_refused() -> None:
    with pytest.raises(UnsupportedEngineVersion, match=r"0\.8\.4 .* from 0\.8\.5 on"):
        arguments(plan=plan_of(version="0.8.4"))


@pytest.mark.parametrize(
    ("flags", "name", "revision"),
    [
        ((), "org/model", None),
        (("--revision", "abc"), "org/model", "abc"),
        (("--tokenizer", "org/other", "--revision", "abc"), "org/other", None),
        (("--tokenizer=org/other", "--tokenizer-revision", "d"), "org/other", "d"),
    ],
)
def test_the_tokenizer_is_the_servers(
    flags: tuple[str, ...], name: str, revision: str | None
) -> None:
    assert tokenizer_of(plan_of(*flags)) == {"name": name, "revision": revision}


def test_a_tokenizer_that_is_given_wins() -> None:
    plan = plan_of("--revision", "abc")
    assert tokenizer_of(plan, "org/mine") == {"name": "org/mine", "revision": None}


def test_a_tokenizer_in_an_object_store_is_refused() -> None:
    plan = plan_of()
    engine = plan.engine.model_copy(update={"command": ["vllm", "serve", "s3://bucket/model"]})
    with pytest.raises(InputError, match=r"s3://bucket/model.*--tokenizer"):
        tokenizer_of(plan.model_copy(update={"engine": engine}))


@pytest.mark.parametrize("flags", [("--runner", "pooling"), ("--task", "embed")])
def test_a_server_that_generates_nothing_is_refused(flags: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="generates nothing"):
        refuse_pooling(plan_of(*flags))


def test_each_load_is_warmed_up_and_repeats_go_round() -> None:
    runs = runs_of(plan_of(), URL, Load(100, 20), [Point(20, 1), Point(64, 16)], 2, "name")
    assert [(run["point"], run["repeat"]) for run in runs] == [
        *((0, None), (1, None)),
        *((0, 0), (1, 0)),
        *((0, 1), (1, 1)),
    ]
    prompts = [value_of(run["arguments"], "--num-prompts") for run in runs]
    assert prompts == ["1", "16", "20", "64", "20", "64"]
    assert len({value_of(run["arguments"], "--seed") for run in runs}) == 6


def test_what_all_runs_begin_with_is_told_once() -> None:
    runs = runs_of(plan_of(), URL, Load(100, 20), [Point(20, 1), Point(64, 16)], 2, "name")
    first, rest = shared(runs)
    assert "--base-url" in first
    assert "--seed" in rest[0]["arguments"]
    assert [[*first, *run["arguments"]] for run in rest] == [run["arguments"] for run in runs]
