"""KV cache of pipelines: vLLM groups the whole model, and each stage has a part of each group."""

import pytest

from unit.sizing.examples import H100, only_problem, plan_of
from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing.memory import kvcache
from vllm_operator.sizing.split.parallelism import SINGLE, Parallelism, illegal_because

JAMBA = "ai21labs/AI21-Jamba-1.5-Mini"
QWEN = "Qwen/Qwen3.8-27B"
NEMOTRON_H = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
NEMOTRON = "nvidia/Llama-3_3-Nemotron-Super-49B-v1_5-FP8"
MIMO = "XiaomiMiMo/MiMo-V2.6-Flash-RL"
GPT_OSS = "openai/gpt-oss-20b"
GEMMA_3 = "gaunernst/gemma-3-12b-it-qat-autoawq"
GEMMA_26B = "google/gemma-4-26B-A4B"
GEMMA_E2B = "google/gemma-4-E2B"
OLD = {"image": "vllm/vllm-openai:v0.10.2"}


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def layout(
    model: str, pipeline: int, version: str = "0.32.0", tokens: int = 8192
) -> kvcache.CacheLayout:
    settings = kvcache.CacheSettings(
        Version.parse(version), Parallelism(1, pipeline), 16, 16, tokens
    )
    return kvcache.cache_layout(architecture(model), settings)


@pytest.mark.parametrize(
    ("model", "pipeline", "block_bytes", "groups"),
    [
        # What vLLM 0.32.0's own get_kv_cache_groups, _project_kv_cache_groups_to_worker and
        # _get_kv_cache_bytes_per_block give for these layers.
        (JAMBA, 1, 1_310_720, 8),
        (JAMBA, 2, 655_360, 8),
        (JAMBA, 8, 327_680, 8),
        (GEMMA_26B, 4, 262_144, 6),
        (GEMMA_26B, 7, 131_072, 6),
        (GEMMA_3, 3, 393_216, 6),
        (GPT_OSS, 5, 98_304, 2),
        (NEMOTRON_H, 8, 2_146_304, 5),
        (QWEN, 3, 19_267_584, 4),
        (QWEN, 20, 3_211_264, 4),
        (MIMO, 2, 409_600, 6),
        (NEMOTRON, 7, 720_896, 1),
    ],
)
def test_a_stage_has_its_part_of_each_of_the_models_groups(
    model: str, pipeline: int, block_bytes: int, groups: int
):
    found = layout(model, pipeline)
    assert found.bytes_per_block == block_bytes
    assert len(found.groups) == groups


def test_a_request_holds_the_same_blocks_however_many_stages_there_are():
    one, many = layout(JAMBA, 1, tokens=2048), layout(JAMBA, 8, tokens=2048)
    assert many.blocks_for(100_000) == one.blocks_for(100_000)


def test_a_stage_of_recurrent_layers_alone_does_not_hold_requests_of_any_length():
    plan = plan_of(JAMBA, gpu=H100, parallelism={"pipeline": 8})
    assert 1e6 < plan.capacity.kv_tokens.low < 2e7


def test_few_layers_of_a_kind_are_padded_from_0_12_on_and_more_of_them_from_0_18_on():
    # 36 windows and 30 full layers, 1.2 times as many; 42 are 1.4 times as many.
    def groups(version: str, windows: int) -> int:
        kinds = ["sliding_attention"] * windows + ["full_attention"] * 30
        text = dict(catalogue.find(GPT_OSS).config)
        text |= {"layer_types": kinds, "num_hidden_layers": len(kinds)}
        settings = kvcache.CacheSettings(Version.parse(version), SINGLE, 16, 16, 2048)
        return len(kvcache.cache_layout(architecture_from_config(text), settings).groups)

    assert [groups(version, 36) for version in ("0.11.2", "0.12.0", "0.18.0")] == [3, 2, 2]
    assert [groups(version, 42) for version in ("0.11.2", "0.17.0", "0.18.0")] == [3, 3, 2]


def test_before_0_11_stages_with_unlike_groups_are_refused():
    # Stages of 12 layers have two full ones each; of five stages, one has a full layer more.
    equal = plan_of(GEMMA_3, parallelism={"pipeline": 4, "tensor": 1}, engine=OLD)
    field, reason, message = only_problem(
        plan_of(GEMMA_3, parallelism={"pipeline": 5, "tensor": 1}, engine=OLD)
    )
    assert equal.feasible
    assert (field, reason) == ("spec.parallelism.pipeline", "IllegalPin")
    assert "0.10.2 groups the KV cache of each pipeline stage by itself" in message


def test_stages_that_part_a_layer_from_the_cache_that_it_reads_are_refused():
    field, reason, message = only_problem(plan_of(GEMMA_E2B, parallelism={"pipeline": 2}))
    assert (field, reason) == ("spec.parallelism.pipeline", "IllegalPin")
    assert "layer 18 reads the KV cache of layer 13, and 2 pipeline stages part them" in message


def test_the_last_layers_of_gemma_4_read_the_last_of_their_kind_that_has_a_cache():
    model = architecture(GEMMA_E2B)
    targets = [model.kinds[kind].cache_of for kind in model.pattern]
    assert targets[:15] == [None] * 15
    assert targets[15:20] == [13, 13, 13, 13, 14]


def test_no_pipeline_of_such_a_model_is_ever_chosen():
    plan = plan_of(GEMMA_E2B, gpu={"product": "T4", "perNode": 8})
    assert plan.placement.pipeline == 1


def test_a_stage_without_any_cache_is_refused():
    # Layers 42 to 46 of Nemotron Super have no attention.
    why = illegal_because(architecture(NEMOTRON), Parallelism(1, 40))
    assert why is not None
    assert "keeps no KV cache" in why
    assert illegal_because(architecture(NEMOTRON), Parallelism(1, 2)) is None
