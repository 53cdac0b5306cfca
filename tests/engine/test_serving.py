"""A server that runs a plan's own command: it starts, prints, answers and counts as expected."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from engine.conftest import BLOCK_SIZE, KV_BYTES
from engine.support import Start
from realengine.environments import SERVING_VERSION
from realengine.server import Server
from vllm_operator.api.plan import Plan
from vllm_operator.cli.checking import completion_at
from vllm_operator.engine.attention import attention_in
from vllm_operator.engine.metrics import metrics
from vllm_operator.engine.versions import Version

pytestmark = pytest.mark.timeout(600)


def test_the_engine_runs_with_the_values_of_the_plan(serving: Server, planned: Plan) -> None:
    (line,) = re.findall(r"non-default args: (\{.*\})", serving.log)
    for said in (
        f"'max_model_len': {planned.capacity.max_model_len}",
        f"'max_num_seqs': {planned.capacity.max_num_seqs}",
        f"'max_num_batched_tokens': {planned.capacity.max_num_batched_tokens}",
        f"'block_size': {planned.capacity.block_size}",
        "'served_model_name': ['tiny']",
        "'enforce_eager': True",
    ):
        assert said in line


def test_the_log_prints_the_tokens_and_concurrency_that_are_computed(
    serving: Server, models: Path
) -> None:
    start = Start("llama", 2048, KV_BYTES, block_size=BLOCK_SIZE)
    tokens, concurrency = start.layout(models).printed(KV_BYTES, start.max_model_len)
    printed = (
        f"KV cache size: {tokens:,} tokens, Maximum concurrency for 2,048 tokens per request: "
        f"{concurrency:.2f}x"
    )
    assert printed in serving.log


def test_the_cache_metric_carries_the_same_figures(serving: Server, models: Path) -> None:
    start = Start("llama", 2048, KV_BYTES, block_size=BLOCK_SIZE)
    tokens, _ = start.layout(models).printed(KV_BYTES, start.max_model_len)
    (labels,) = re.findall(r"^vllm:cache_config_info\{(.*)\} 1\.0$", serving.get("/metrics"), re.M)
    assert f'kv_cache_size_tokens="{tokens}"' in labels
    assert f'block_size="{BLOCK_SIZE}"' in labels


def test_a_chat_completion_answers(serving: Server) -> None:
    answer = serving.post(
        "/v1/chat/completions",
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "def main"}],
            "max_tokens": 8,
            "ignore_eos": True,
        },
    )
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["choices"][0]["message"]["content"]


def test_the_completion_of_a_check_is_answered_and_a_refusal_is_told(serving: Server) -> None:
    answered = completion_at(serving.url, "tiny")
    assert (answered.tokens, answered.problem) == (5, "")
    refused = completion_at(f"{serving.url}/v1", "another")
    assert refused.tokens == 0
    assert "404" in refused.problem


def test_the_log_of_the_cpu_build_names_no_attention_backend(serving: Server) -> None:
    """As docs/diagnosing.md says: a check skips it."""
    assert attention_in(serving.log) is None


def test_of_the_paths_that_control_an_engine_those_of_elastic_ranks_alone_are_open(
    serving: Server,
) -> None:
    """As docs/routing.md says, which tells what not to route for it."""
    paths = set(json.loads(serving.get("/openapi.json"))["paths"])
    assert {"/v1/chat/completions", "/scale_elastic_ep", "/is_scaling_elastic_ep"} <= paths
    closed = {
        *("/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/reset_prefix_cache"),
        *("/pause", "/resume", "/update_weights", "/init_weight_transfer_engine", "/server_info"),
        *("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/start_profile", "/abort_requests"),
    }
    assert paths & closed == set()


def test_it_serves_the_planned_name_and_length(serving: Server) -> None:
    (model,) = json.loads(serving.get("/v1/models"))["data"]
    assert (model["id"], model["max_model_len"]) == ("tiny", 2048)


def test_it_is_the_version_that_was_planned_for(serving: Server) -> None:
    assert json.loads(serving.get("/version"))["version"].startswith(SERVING_VERSION)


def test_every_metric_that_the_table_names_is_exported(serving: Server) -> None:
    exported = dict(re.findall(r"^# TYPE (\S+) (\w+)$", serving.get("/metrics"), re.M))
    # Exported with drafts, or with --enable-mfu-metrics, alone; the other with one API server.
    asked_for = ("vllm:spec_decode_", "vllm:estimated_", "process_start_time_seconds")
    named = {one.name: one.type for one in metrics(Version.parse(SERVING_VERSION)).values()}
    always = {name: kind for name, kind in named.items() if not name.startswith(asked_for)}
    assert always.items() <= exported.items()
