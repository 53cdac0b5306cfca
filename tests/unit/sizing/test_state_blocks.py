"""Sequences of models with recurrent layers: vLLM's full graphs want a block for each."""

import pytest

from unit.sizing.examples import only_problem as problem_of
from unit.sizing.examples import plan_of, reason_of, value_of
from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.sizing.memory.kvcache import CacheSettings, cache_layout
from vllm_operator.sizing.split.parallelism import SINGLE

QWEN = "Qwen/Qwen3.8-27B"
NEMOTRON = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
H100 = {"product": "H100", "perNode": 1}


def engine(version: str = "0.30.0", **pins: object) -> dict:
    return {"image": f"vllm/vllm-openai:v{version}", "maxModelLen": 32_768, **pins}


def seqs(**given: object) -> int:
    return plan_of(QWEN, gpu=H100, **given).capacity.max_num_seqs


@pytest.mark.parametrize("version", ["0.20.0", "0.30.0", "0.33.0"])
def test_no_more_sequences_are_served_than_there_surely_are_blocks(version: str):
    plan = plan_of(QWEN, gpu=H100, engine=engine(version))
    found = plan.capacity.max_num_seqs
    assert 200 < found < 1024
    assert f"the KV cache surely has {found} blocks" in reason_of(plan, "--max-num-seqs")
    assert f"vLLM {version} wants one for the recurrent states" in reason_of(plan, "--max-num-seqs")


def test_the_number_is_one_that_works_when_it_is_pinned():
    free = seqs(engine=engine())
    assert seqs(engine=engine(maxNumSeqs=free)) == free


def test_more_than_that_are_refused_with_the_number_that_works():
    free = seqs(engine=engine())
    field, reason, message = problem_of(
        plan_of(QWEN, gpu=H100, engine=engine(maxNumSeqs=1024, maxNumBatchedTokens=8192))
    )
    assert (field, reason) == ("spec.engine.maxNumSeqs", "Infeasible")
    assert "1024 sequences want a block for their recurrent states each" in message
    offered = int(message.partition("maxNumSeqs of at most ")[2].split()[0].strip(".,;"))
    assert 0.9 * free < offered <= free
    assert seqs(engine=engine(maxNumSeqs=offered, maxNumBatchedTokens=8192)) == offered


def test_more_gpus_serve_more_sequences_where_a_number_is_pinned():
    gpu = {"product": "H100", "perNode": 8}
    plan = plan_of(QWEN, gpu=gpu, engine=engine(maxNumSeqs=1024))
    assert plan.feasible
    assert plan.placement.gpus_per_replica > 1


@pytest.mark.parametrize(
    "pins",
    [
        {"version": "0.19.1"},
        {"enforceEager": True},
        {"extraArgs": ['--compilation-config={"cudagraph_mode": "NONE"}']},
    ],
)
def test_without_full_graphs_as_many_are_served_as_vllm_does_by_itself(pins: dict):
    assert seqs(engine=engine(pins.pop("version", "0.30.0"), **pins)) == 1024


def test_attention_alone_needs_no_states():
    plan = plan_of(LLAMA, gpu=H100, engine=engine())
    assert value_of(plan, "--max-num-seqs") == "1024"


def test_a_stated_load_still_bounds_them_further():
    load = {"promptTokens": 4096, "outputTokens": 1024, "concurrency": 16}
    found = seqs(engine=engine(), workload=load)
    assert 16 <= found < seqs(engine=engine())


def blocks_of(model: str, version: str, asked: bool | None, drafts: int = 0) -> int:
    """Blocks that a whole request of 32,768 tokens holds, on one GPU."""
    settings = CacheSettings(
        Version.parse(version),
        SINGLE,
        8,
        16,
        8192,
        prefix_caching=asked,
        speculative_tokens=drafts,
    )
    found = architecture_from_config(catalogue.find(model).config)
    return cache_layout(found, settings).blocks_for(32_768)


@pytest.mark.parametrize(
    ("version", "asked", "drafts", "more"),
    [
        ("0.27.1", None, 0, 0),
        ("0.27.1", True, 0, 1),
        ("0.28.0", None, 0, 1),
        ("0.28.0", False, 0, 0),
        ("0.14.0", True, 0, 0),
        ("0.15.0", True, 0, 1),
        ("0.25.1", True, 3, 4),
        ("0.33.0", None, 0, 2),
    ],
)
def test_a_gated_delta_net_keeps_blocks_for_cached_prefixes_as_the_release_does(
    version: str, asked: bool | None, drafts: int, more: int
):
    groups = 3  # 48 recurrent and 16 full layers
    bare = blocks_of(QWEN, version, False)
    assert blocks_of(QWEN, version, asked, drafts) == bare + groups * more


def test_mamba2_keeps_a_state_of_each_block_up_to_0_27_where_it_is_asked_to():
    unasked, asked, newer = (
        blocks_of(NEMOTRON, version, caching)
        for version, caching in (("0.20.0", None), ("0.20.0", True), ("0.28.0", True))
    )
    assert asked > 3 * unasked
    assert newer < 2 * unasked


def test_drafts_keep_the_last_states_alone():
    # vllm 0.20.0 model_executor/models/config.py, MambaModelConfig: align beside drafts
    kept = blocks_of(NEMOTRON, "0.20.0", True, drafts=1)
    assert kept < 2 * blocks_of(NEMOTRON, "0.20.0", None)
