"""Guards and limits of sizing, on both sides."""

from dataclasses import replace

import pytest

from unit.sizing.examples import LLAMA_8B, only_problem, plan_of
from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.shapes import StateCache
from vllm_operator.sizing.layout.v0_setup import described_setup
from vllm_operator.sizing.memory import accounting, weights
from vllm_operator.sizing.memory.kvcache import CacheSettings, cache_layout
from vllm_operator.sizing.memory.load import Load
from vllm_operator.sizing.split.parallelism import SINGLE

V33 = Version((0, 33, 0))


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def test_of_states_of_different_sizes_the_largest_decides_a_page():
    model = architecture("ai21labs/AI21-Jamba-1.5-Mini")
    settings = CacheSettings(V33, SINGLE, 16, 16, 2048)
    before = cache_layout(model, settings).block_size
    index = next(i for i, kind in enumerate(model.kinds) if isinstance(kind.cache, StateCache))
    kind = model.kinds[index]
    assert isinstance(kind.cache, StateCache)
    larger = replace(kind, cache=replace(kind.cache, state=4 * kind.cache.state))
    kinds = (*model.kinds[:index], larger, *model.kinds[index + 1 :])
    assert sum(isinstance(one.cache, StateCache) for one in kinds) > 1
    assert cache_layout(replace(model, kinds=kinds), settings).block_size > 3 * before


def test_adapters_go_with_any_division_but_whole_experts():
    lora = {"maxRank": 8}
    model = "Qwen/Qwen3-30B-A3B"
    old = {"version": "0.20.0", "lora": lora}
    assert plan_of(model, engine=old, parallelism={"tensor": 4}).feasible
    assert plan_of(model, engine=old, parallelism={"tensor": 4, "expert": False}).feasible
    refused = plan_of(model, engine=old, parallelism={"tensor": 4, "expert": True})
    assert only_problem(refused)[0] == "spec.parallelism.expert"


def test_buffers_of_a_step_s_input_grow_with_its_tokens():
    model = architecture("Qwen/Qwen3-VL-Embedding-2B")
    # Three levels of deepstack features of 2,048 elements.
    assert weights.input_buffer_bytes(model, 8192, 2) == 8192 * 3 * 2048 * 2
    small, large = (
        accounting.footprint(model, V33, SINGLE, Load(8, tokens, 2), enforce_eager=True).weights
        for tokens in (4096, 8192)
    )
    assert large.expected - small.expected == pytest.approx(4096 * 3 * 2048 * 2, rel=0.01)


def test_the_name_of_a_slice_is_no_longer_than_a_label_s_value():
    gpu = {
        "product": "NVIDIA-H100-80GB-HBM3-of-a-vendor-with-a-rather-long-name-of-63",
        "resourceName": "nvidia.com/mig-3g.40gb",
        "memoryGiB": 39,
    }
    assert len(plan_of(LLAMA_8B, gpu=gpu, engine={"maxModelLen": 2048}).placement.gpu) <= 63


def test_a_model_with_one_kind_of_latent_layer_is_a_latent_one():
    model = architecture("deepseek-ai/DeepSeek-V3")
    plain = architecture(LLAMA_8B)
    mixed = replace(model, kinds=(*model.kinds, plain.kinds[0]))
    assert (mixed.latent, plain.latent) == (True, False)
    facts = {"capability": (9, 0), "float32": False, "kv_cache_dtype": "auto", "pipeline": 1}
    assert described_setup(mixed, **facts).latent


@pytest.mark.parametrize(("gib", "slice_memory"), [(40, True), (41, False)])
def test_a_slice_has_no_more_memory_than_its_name_says(gib: int, slice_memory: bool):
    gpu = {"product": "H100", "resourceName": "nvidia.com/mig-3g.40gb", "memoryGiB": gib}
    plan = plan_of(LLAMA_8B, gpu=gpu, engine={"maxModelLen": 2048})
    assert plan.feasible == slice_memory
