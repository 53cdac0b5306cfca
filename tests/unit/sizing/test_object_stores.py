"""Models that are named by where they are: in an object store, or in the engine's container."""

from __future__ import annotations

from typing import Any

import pytest

from unit.sizing.examples import GIBIBYTE, H100, LLAMA_8B, inputs_for, server
from vllm_operator.api.plan import Plan, Problem
from vllm_operator.models import catalogue
from vllm_operator.models.sources import facts_of
from vllm_operator.sizing.plan.planner import make_plan

S3 = f"s3://models/{LLAMA_8B}"
AZURE = {"env": [{"name": "AZURE_STORAGE_ACCOUNT_NAME", "value": "team"}]}
STORES = [
    (S3, {}),
    (f"gs://models/{LLAMA_8B}/", {}),
    (f"az://models/{LLAMA_8B}", AZURE),
]
FOLDER = f"/opt/{LLAMA_8B}"
DRAFTING = "deepseek-ai/DeepSeek-V3"


def no_facts(_: object) -> Any:
    raise AssertionError("nobody is asked")


def plan_at(place: str | dict[str, Any], **spec: Any) -> Plan:
    spec.setdefault("gpu", H100)
    wanted = server(place, **spec)
    inputs = inputs_for(wanted, model=facts_of(wanted.spec.model, no_facts, no_facts))
    found = make_plan(wanted, inputs)
    assert isinstance(found, Plan), found.problems
    return found


def refusals(place: str, *, facts: str = LLAMA_8B, **spec: Any) -> list[Problem]:
    wanted = server(place, **{"gpu": H100, **spec})
    return list(make_plan(wanted, inputs_for(wanted, model=catalogue.find(facts))).problems)


@pytest.mark.parametrize(("place", "engine"), STORES)
def test_a_model_of_an_object_store_is_streamed_from_its_address(
    place: str, engine: dict[str, Any]
) -> None:
    command = plan_at(place, engine=engine).engine.command
    assert command[:3] == ["vllm", "serve", place]
    assert command[command.index("--load-format") + 1] == "runai_streamer"
    assert command[command.index("--served-model-name") + 1] == place


def test_the_streamer_that_was_asked_for_is_given_once() -> None:
    plan = plan_at(S3, engine={"extraArgs": ["--load-format=runai_streamer"]})
    (given,) = [flag for flag in plan.flags if flag.name == "--load-format"]
    assert given.reason == "spec.engine.extraArgs[0]"


@pytest.mark.parametrize("place", [S3, FOLDER])
def test_what_is_not_downloaded_takes_no_room_of_the_node_s_disk(place: str) -> None:
    storage = plan_at(place).storage
    assert (storage.kind, storage.disk_bytes) == ("EmptyDir", 2 * GIBIBYTE)
    small = {"id": place, "storage": {"emptyDir": {"sizeLimit": "1Gi"}}}
    plan_at(small)


def test_a_folder_of_the_container_is_served_from_there_without_the_hub() -> None:
    plan = plan_at(FOLDER)
    assert plan.engine.command[:3] == ["vllm", "serve", FOLDER]
    assert "--load-format" not in plan.engine.command
    assert plan.engine.env["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in plan_at(S3).engine.env


def test_a_start_from_a_bucket_is_as_long_as_a_download_and_one_from_a_folder_is_not() -> None:
    downloaded = plan_at(LLAMA_8B).startup.seconds
    assert plan_at(S3).startup.seconds == downloaded
    assert plan_at(FOLDER).startup.seconds < downloaded


def test_the_memory_is_that_of_the_model_wherever_it_is_read_from() -> None:
    assert plan_at(S3).memory == plan_at(LLAMA_8B).memory == plan_at(FOLDER).memory


LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"
BYTES_8B, BYTES_70B = 16_060_522_496, 141_107_412_992
FOUR = {"parallelism": {"tensor": 4}}


def limited(value: str) -> dict[str, Any]:
    return {"env": [{"name": "RUNAI_STREAMER_MEMORY_LIMIT", "value": value}]}


def configured(config: str) -> dict[str, Any]:
    return {"extraArgs": ["--model-loader-extra-config", config]}


@pytest.mark.parametrize(
    ("model", "spec", "held"),
    [
        (LLAMA_8B, {}, BYTES_8B),
        (LLAMA_70B, FOUR, 4 * 40_000_000_000),
        (LLAMA_70B, {**FOUR, "engine": limited("4000000000")}, 4 * 4_000_000_000),
        (LLAMA_70B, {**FOUR, "engine": limited("-1")}, 4 * BYTES_70B),
        (LLAMA_70B, {**FOUR, "engine": limited("0")}, 0),
        (LLAMA_70B, {**FOUR, "engine": limited("much")}, 4 * 40_000_000_000),
        (LLAMA_70B, {**FOUR, "engine": configured('{"memory_limit": 1000}')}, 4000),
        (LLAMA_70B, {**FOUR, "engine": configured('{"distributed": true}')}, BYTES_70B),
    ],
    ids=["one", "four", "limited", "all", "least", "unreadable", "configured", "parted"],
)
def test_the_streamer_s_buffers_are_counted_in_each_process_of_a_pod(
    model: str, spec: dict[str, Any], held: int
) -> None:
    assert plan_at(f"s3://models/{model}", **spec).storage.buffer_bytes == held


def test_a_limit_that_a_secret_holds_is_taken_for_the_streamer_s_own() -> None:
    secret = {"secretKeyRef": {"name": "streamer", "key": "limit"}}
    env = [{"name": "RUNAI_STREAMER_MEMORY_LIMIT", **secret}]
    plan = plan_at(f"s3://models/{LLAMA_70B}", **FOUR, engine={"env": env})
    assert plan.storage.buffer_bytes == 4 * 40_000_000_000


def test_weights_of_a_volume_take_buffers_where_they_are_streamed_and_else_none() -> None:
    assert plan_at(LLAMA_8B).storage.buffer_bytes is None
    streamed = {"extraArgs": ["--load-format=runai_streamer"]}
    assert plan_at(LLAMA_8B, engine=streamed).storage.buffer_bytes == BYTES_8B


def test_the_reason_of_the_format_says_what_memory_it_takes_and_what_takes_less() -> None:
    (given,) = [flag for flag in plan_at(S3).flags if flag.name == "--load-format"]
    assert "take up to 15.0 GiB of a pod's memory" in given.reason
    assert "RUNAI_STREAMER_MEMORY_LIMIT in spec.engine.env" in given.reason


def test_a_vllm_that_does_not_read_the_store_is_refused_with_those_that_do() -> None:
    (problem,) = refusals("gs://models/llama", engine={"version": "0.10.2"})
    assert problem.field == "spec.model.id"
    assert problem.message == (
        "vLLM 0.10.2 does not read gs:// addresses; 0.11.1 and newer do: use one of them, in "
        "spec.engine.image"
    )


@pytest.mark.parametrize("format_", ["auto", "safetensors", "dummy"])
def test_another_format_is_refused_for_an_object_store(format_: str) -> None:
    (problem,) = refusals(S3, engine={"extraArgs": ["--load-format", format_]})
    assert problem.field == "spec.engine.extraArgs"
    assert "read by runai_streamer alone; remove it" in problem.message


def test_a_container_of_azure_needs_the_account_that_it_is_of() -> None:
    (problem,) = refusals("az://models/llama")
    assert problem.field == "spec.model.id"
    assert "set AZURE_STORAGE_ACCOUNT_NAME in spec.engine.env" in problem.message
    endpoint = [{"name": "AZURE_STORAGE_ENDPOINT", "value": "https://team.example"}]
    assert refusals("az://models/llama", engine={"env": endpoint}) == []


@pytest.mark.parametrize(
    ("facts", "engine"),
    [
        (LLAMA_8B, {"version": "0.27.0", "quantization": "bitsandbytes"}),
        ("unsloth/meta-llama-3.1-8b-instruct-unsloth-bnb-4bit", {}),
    ],
    ids=["while loading", "stored"],
)
def test_a_quantisation_with_a_format_of_its_own_is_refused_for_an_object_store(
    facts: str, engine: dict[str, Any]
) -> None:
    (problem,) = refusals(S3, facts=facts, engine=engine)
    assert problem.field == "spec.model.id"
    assert "put them on a volume (spec.model.storage)" in problem.message


def test_offline_engines_that_look_for_an_address_in_the_cache_are_refused() -> None:
    offline = {"env": [{"name": "HF_HUB_OFFLINE", "value": "1"}]}
    (problem,) = refusals(S3, engine={**offline, "version": "0.22.1"})
    assert problem.field == "spec.engine.env[HF_HUB_OFFLINE]"
    assert refusals(S3, engine={**offline, "version": "0.23.0"}) == []


def test_drafts_of_the_model_s_own_layers_are_refused_where_they_are_not_streamed() -> None:
    spec = {
        "gpu": {"product": "H200", "perNode": 8},
        "engine": {"version": "0.28.0", "speculative": {"method": "mtp"}},
    }
    place = f"s3://models/{DRAFTING}"
    problems = refusals(place, facts=DRAFTING, **spec)
    assert [one.field for one in problems] == ["spec.engine.speculative"]
    newer = {**spec, "engine": {**spec["engine"], "version": "0.29.0"}}
    assert not any(
        one.field == "spec.engine.speculative" for one in refusals(place, facts=DRAFTING, **newer)
    )
