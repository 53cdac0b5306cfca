"""What speculative decoding adds to the weights and to the KV cache."""

from dataclasses import replace

import pytest

from unit.sizing.examples import EAGLE3, plan_of, value_of
from vllm_operator.api.features import Speculative
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin, UnknownModel
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.drafts import assistant_draft
from vllm_operator.models.shapes import AttentionCache
from vllm_operator.sizing.asked.speculation import speculation_of, with_draft
from vllm_operator.sizing.memory import kvcache, weights
from vllm_operator.sizing.split.parallelism import SINGLE, Parallelism, illegal_because

LLAMA, MTP = "meta-llama/Llama-3.1-8B-Instruct", "deepseek-ai/DeepSeek-V3"
NEW = Version((0, 30, 0))
EAGLE3_BYTES = 2 * sum(
    (
        2 * 4096 * 6144,
        4096 * 4096,
        3 * 4096 * 14336,
        3 * 4096,
        3 * 4096 * 4096,
        32000 * 4096,
    )
)
"""Its layer with a doubled input, its projection of three states and its head."""


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def added(model: str, method: str, **draft: object) -> int:
    known = architecture(model)
    drafting = with_draft(known, method, NEW, **draft)  # type: ignore[arg-type]
    whole = weights.bytes_per_rank(drafting, SINGLE, 2)
    return whole - weights.bytes_per_rank(known, SINGLE, 2)


def block_bytes(model: Architecture, tensor: int = 1) -> int:
    settings = kvcache.CacheSettings(NEW, Parallelism(tensor), 16, 16, 2048)
    return kvcache.cache_layout(model, settings).bytes_per_block


@pytest.mark.parametrize("method", ["ngram", "suffix"])
def test_methods_without_a_model_load_nothing(method: str):
    known = architecture(LLAMA)
    assert with_draft(known, method, NEW) is known


GEMMA = "google/gemma-4-E2B"
E2B_ASSISTANT = "google/gemma-4-E2B-it-assistant"
ASSISTANT = {**catalogue.drafter(E2B_ASSISTANT), "use_ordered_embeddings": False}


def test_gemmas_assistant_is_queries_mlps_two_projections_and_a_head():
    layers = 3 * 2 * 4 * 256 * 256 + 2 * 4 * 512 * 256 + 4 * 3 * 256 * 2048
    norms = 4 * (4 * 256 + 1) + 3 * 256 + 512 + 256
    outside = 2 * 1536 * 256 + 256 * 1536 + 262144 * 256
    assert added(GEMMA, "mtp", config=ASSISTANT) == 2 * (layers + norms + outside)


def test_ordered_embeddings_of_gemmas_assistant_have_centroids_and_an_order():
    ordered = {**ASSISTANT, "use_ordered_embeddings": True, "num_centroids": 2048}
    more = added(GEMMA, "mtp", config=ordered) - added(GEMMA, "mtp", config=ASSISTANT)
    assert more == 2 * 256 * 2048 + 8 * 262144


def test_gemmas_assistant_keeps_nothing_of_its_own():
    known = architecture(GEMMA)
    drafting = with_draft(known, "mtp", NEW, config=ASSISTANT)
    assert block_bytes(drafting) == block_bytes(known)


@pytest.mark.parametrize(
    ("size", "elements"),
    [("E2B", 78.0e6), ("E4B", 78.8e6), ("26B-A4B", 420e6), ("31B", 470e6)],
)
def test_gemmas_assistants_are_as_large_as_their_model_cards_say(size: str, elements: float):
    config = catalogue.drafter(f"google/gemma-4-{size}-it-assistant")
    assert config is not None
    target = replace(architecture(GEMMA), hidden_size=config["backbone_hidden_size"])
    draft = assistant_draft(config, target)
    # The order of the tokens is no parameter of the checkpoint's.
    found = sum(layer.parameters for layer in draft.layers)
    found += sum(matrix.parameters for matrix in draft.matrices)
    assert found == pytest.approx(elements, rel=0.01)


def test_an_assistant_is_no_draft_model():
    with pytest.raises(IllegalPin, match="set it to mtp") as refusal:
        added(GEMMA, "draft_model", config=ASSISTANT)
    assert refusal.value.field == "spec.engine.speculative.method"


def test_a_gemma_that_drafts_with_its_assistant_is_told_so():
    drafts = {"method": "mtp", "model": E2B_ASSISTANT, "tokens": 2}
    plan = plan_of(GEMMA, engine={"speculative": drafts})
    told = f'{{"method":"mtp","model":"{E2B_ASSISTANT}","num_speculative_tokens":2}}'
    assert value_of(plan, "--speculative-config") == told
    # The order of 262,144 tokens, as vLLM keeps it, among them.
    assert plan.memory.draft_weights == pytest.approx(2 * 78.0e6 + 8 * 262144, rel=0.05)


def test_a_gemma_that_drafts_names_its_assistant():
    with pytest.raises(IllegalPin) as refusal:
        with_speculation("mtp", None)
    assert refusal.value.field == "spec.engine.speculative.model"


def test_a_release_before_the_assistants_drafts_without_them():
    with pytest.raises(IllegalPin) as refusal:
        with_speculation("mtp", E2B_ASSISTANT, Version((0, 20, 0)))
    assert refusal.value.field == "spec.engine.speculative.method"


def with_speculation(method: str, model: str | None, version: Version = NEW) -> None:
    given = Speculative(method=method, model=model)
    speculation_of(given, architecture(GEMMA), version, "vllm/vllm-openai:v0.30.0")


def test_an_assistant_of_another_gemma_is_refused_by_its_backbone():
    with pytest.raises(UnknownModel) as refusal:
        added(GEMMA, "mtp", config={**ASSISTANT, "backbone_hidden_size": 3840})
    assert refusal.value.field == "spec.engine.speculative.model.backbone_hidden_size"


def test_own_layers_are_loaded_with_their_projection():
    known = architecture(MTP)
    drafting = with_draft(known, "mtp", NEW)
    more = weights.bytes_per_rank(drafting, Parallelism(8), 2)
    more -= weights.bytes_per_rank(known, Parallelism(8), 2)
    layer = known.draft[0]
    projection = 2 * 2 * 7168 * 7168
    assert projection < more < projection + layer.parameters // 4


def test_own_layers_keep_a_cache_of_their_own():
    known = architecture(MTP)
    drafting = with_draft(known, "mtp", NEW)
    one = block_bytes(known) // known.layers
    assert block_bytes(drafting) == block_bytes(known) + one


def test_an_eagle_head_of_known_size_shares_the_embedding():
    rotary = 2 * (2048 * 128 + 4096 + 4 * 32000)
    found = added(LLAMA, "eagle3", config=EAGLE3, weight_bytes=EAGLE3_BYTES)
    assert found == EAGLE3_BYTES + rotary


def test_an_eagle_head_of_unknown_size_is_taken_to_have_its_own_embedding():
    shared = added(LLAMA, "eagle3", config=EAGLE3, weight_bytes=EAGLE3_BYTES)
    assert added(LLAMA, "eagle3", config=EAGLE3) == shared + 2 * 128256 * 4096


def test_an_eagle_head_keeps_one_layers_cache():
    drafting = with_draft(architecture(LLAMA), "eagle3", NEW, config=EAGLE3)
    assert [layer.cache for layer in drafting.speculator.layers] == [AttentionCache(8, 128, 128)]
    assert block_bytes(drafting) * 32 == block_bytes(architecture(LLAMA)) * 33


def test_a_draft_model_is_loaded_whole():
    draft = catalogue.find("Qwen/Qwen3-0.6B").config
    alone = weights.bytes_per_rank(architecture("Qwen/Qwen3-0.6B"), SINGLE, 2)
    assert added("Qwen/Qwen3-32B", "draft_model", config=draft) == alone


def test_a_draft_of_another_vocabulary_is_refused():
    draft = catalogue.find("Qwen/Qwen3-0.6B").config
    with pytest.raises(IllegalPin, match="same vocabulary") as refusal:
        with_draft(architecture(LLAMA), "draft_model", NEW, config=draft)
    assert refusal.value.field == "spec.engine.speculative.model"


def test_a_model_without_own_layers_cannot_draft_by_itself():
    with pytest.raises(IllegalPin, match="take one of ngram"):
        with_draft(architecture(LLAMA), "mtp", NEW)


def test_a_method_that_needs_a_draft_asks_for_its_repository():
    with pytest.raises(IllegalPin, match="repository of the draft"):
        with_draft(architecture(LLAMA), "eagle3", NEW)


@pytest.mark.parametrize(("method", "version"), [("medusa", "0.30.0"), ("draft_model", "0.14.0")])
def test_a_method_that_is_not_sized_is_refused_with_those_that_are(method: str, version: str):
    with pytest.raises(IllegalPin, match="take one of ngram"):
        with_draft(architecture(LLAMA), method, Version.parse(version))


def test_a_head_of_another_make_is_refused_by_its_architecture():
    config = {**EAGLE3, "architectures": ["MedusaModel"]}
    with pytest.raises(UnknownModel) as refusal:
        with_draft(architecture(LLAMA), "eagle3", NEW, config=config)
    assert refusal.value.field == "spec.engine.speculative.model.architectures"


@pytest.mark.parametrize(
    ("changed", "tensor", "why"),
    [
        ({}, 8, None),
        ({"intermediate_size": 14_338}, 4, "of the draft, intermediate size 14338 is not"),
        ({"intermediate_size": 14_338}, 2, None),
        (
            {"num_attention_heads": 36, "num_key_value_heads": 4, "head_dim": 128},
            8,
            "the draft's 36 attention heads are",
        ),
        (
            {"num_attention_heads": 24, "num_key_value_heads": 6, "head_dim": 128},
            4,
            "of the draft, 6 key/value heads neither divide nor",
        ),
    ],
)
def test_a_draft_that_cannot_be_divided_as_its_model_is_is_named(
    changed: dict, tensor: int, why: str | None
):
    drafting = with_draft(architecture(LLAMA), "eagle3", NEW, config={**EAGLE3, **changed})
    told = illegal_because(drafting, Parallelism(tensor))
    assert told is None if why is None else told is not None and told.startswith(why)
