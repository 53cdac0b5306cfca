"""What holds for every feature, profile and extra argument that a user may ask for."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unit.sizing.examples import LLAMA_8B, QWEN_0_6B, inputs_for, plan_of, server
from vllm_operator.engine import flags, parsers
from vllm_operator.engine.arguments import rules
from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue as models
from vllm_operator.sizing.asked.extra_arguments import read_extra_arguments
from vllm_operator.sizing.plan.planner import make_plan

VERSIONS = ("0.8.5", "0.9.2", "0.10.2", "0.11.1", "0.12.0", "0.20.0", "0.27.0", "0.30.0", "0.33.0")
SPELLINGS = sorted({one for text in VERSIONS for one in flags.serve_flags(Version.parse(text))})
VALUES = ("1", "-1", "0.5", "x", "1K", "{}", '{"a":1}', "[1,2]", "NONE", "auto", "", "a b", "512")
words = st.lists(
    st.one_of(
        st.sampled_from(SPELLINGS),
        st.sampled_from(VALUES),
        st.tuples(st.sampled_from(SPELLINGS), st.sampled_from(VALUES)).map("=".join),
        st.tuples(st.sampled_from(SPELLINGS), st.sampled_from(("x", "mode", "a.b"))).map(".".join),
        st.text(max_size=12),
    ),
    max_size=6,
)
usual_words = st.sampled_from(
    [
        ["--seed=1"],
        ["--seed", "-1", "--disable-custom-all-reduce"],
        ["--compilation-config", '{"custom_ops":["none"]}'],
        ["--middleware", "a", "--middleware=b"],
        ["--allowed-origins", '["*"]', "--uvicorn-log-level=warning"],
        ["--cudagraph-capture-sizes", "1", "2", "4"],
        ["-cc.cudagraph_mode", "NONE"],
        ["-O3"],
        ["--limit-mm-per-prompt", '{"image":0,"video":0}'],
        ["--load_format=dummy", "--no-async-scheduling"],
        ["--port=1"],
    ]
)
speculations = st.fixed_dictionaries(
    {"method": st.sampled_from(["ngram", "ngram", "mtp", "suffix", "eagle", "eagle3"])},
    optional={"tokens": st.integers(1, 32)},
) | st.fixed_dictionaries(
    {
        "method": st.just("draft_model"),
        "model": st.sampled_from([QWEN_0_6B, "a/b", "/drafts/c"]),
        "tokens": st.integers(1, 8),
    }
)
adapters = st.fixed_dictionaries(
    {},
    optional={
        "maxLoras": st.integers(1, 64),
        "maxRank": st.sampled_from([1, 8, 8, 16, 16, 24, 256]),
        "adapters": st.sampled_from(
            [[], [{"name": "a", "path": "/a"}, {"name": "b", "path": "b/b"}]]
        ),
    },
)
engines = st.fixed_dictionaries(
    {"version": st.sampled_from(VERSIONS)},
    optional={
        "speculative": speculations,
        "lora": adapters,
        "toolCallParser": st.sampled_from(["hermes", "hermes", "qwen3_coder", "nothing"]),
        "reasoningParser": st.sampled_from(["qwen3", "deepseek_r1"]),
        "extraArgs": usual_words,
        "maxNumSeqs": st.integers(1, 2048),
        "maxNumBatchedTokens": st.integers(16, 32_768),
    },
)
workloads = st.fixed_dictionaries(
    {"profile": st.sampled_from(["Balanced", "Throughput", "Latency", "LongContext", "Cost"])},
    optional={"promptTokens": st.integers(1, 8000), "concurrency": st.integers(1, 500)},
)
EXAMPLES = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(max_examples=1000, deadline=None)
@given(words, st.sampled_from(VERSIONS))
def test_any_words_are_arguments_or_refused_at_their_place(given_: list[str], text: str):
    version = Version.parse(text)
    extras, problems = read_extra_arguments(given_, version)
    assert not (extras.flags and problems)
    for problem in problems:
        place = problem.field.removeprefix("spec.engine.extraArgs[").removesuffix("]")
        assert 0 <= int(place) < len(given_)
        assert problem.message
    for name in extras.names:
        assert rules()[name].verdict in ("free", "modelled", "bounded")


def test_no_planned_command_is_one_that_the_version_refuses():
    met: Counter[str] = Counter()

    @EXAMPLES
    @given(st.sampled_from(models.known_models()), engines, workloads)
    def holds(model: str, engine: dict[str, Any], workload: dict[str, Any]) -> None:
        planned = server(model, engine=engine, workload=workload, gpu={"product": "H200"})
        plan = make_plan(planned, inputs_for(planned))
        met["drawn"] += 1
        if not plan.feasible:
            assert all(problem.field and problem.message for problem in plan.problems)
            return
        met["feasible"] += 1
        version = Version.parse(engine["version"])
        assert flags.problems(plan.engine.command[2:], version) == []
        ledger = plan.memory
        parts = ledger.weights + ledger.activation_peak + ledger.cuda_graphs + ledger.non_torch
        assert ledger.budget == parts + ledger.kv_cache.expected
        assert ledger.weights > (ledger.draft_weights or 0) + (ledger.adapters or 0)
        if "toolCallParser" in engine:
            assert engine["toolCallParser"] in parsers.parsers(parsers.TOOL_CALLS, version)
        asked = workload.get("concurrency", 1)
        assert plan.capacity.max_num_seqs >= min(asked, engine.get("maxNumSeqs", asked))
        assert plan.capacity.max_num_batched_tokens >= plan.capacity.max_num_seqs

    holds()
    assert met["feasible"] >= met["drawn"] * 0.25, met


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("parser", ["hermes", "qwen3_coder", "glm45", "nothing"])
def test_a_parser_is_planned_where_and_only_where_the_version_has_it(version: str, parser: str):
    plan = plan_of(LLAMA_8B, engine={"version": version, "toolCallParser": parser})
    assert plan.feasible == (parser in parsers.parsers(parsers.TOOL_CALLS, Version.parse(version)))


@EXAMPLES
@given(st.integers(1, 32), st.sampled_from([8, 16, 64, 256]))
def test_more_adapters_never_leave_more_for_the_cache(slots: int, rank: int):
    fewer = plan_of(LLAMA_8B, engine={"lora": {"maxLoras": slots, "maxRank": rank}})
    more = plan_of(LLAMA_8B, engine={"lora": {"maxLoras": 2 * slots, "maxRank": rank}})
    if not more.feasible:
        return
    assert fewer.feasible
    if more.placement == fewer.placement:
        assert more.memory.kv_cache.low < fewer.memory.kv_cache.low
