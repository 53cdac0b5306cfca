"""What speculative decoding loads beside a model, by the way it drafts.

Sources: vllm 0.33.0 ``v1/spec_decode/llm_base_proposer.py`` (what a draft shares with the model),
``models/llama_eagle.py``, ``llama_eagle3.py``, ``deepseek_mtp.py``, ``qwen3_next_mtp.py``,
``gemma4_mtp.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from .blocks import attention, layer, mlp
from .families.common import attention_facts, head_dim, key_value_heads, of_kind, rotary_dim
from .matrices import Matrix, Split, stored_bytes_of
from .quantization import UNQUANTIZED, quantization_from_config
from .reader import Facts, shown
from .rope import context_length_of, rope_scaling_of
from .shapes import Architecture, Draft, Layer

MODEL_FIELD: Final = "spec.engine.speculative.model"

EAGLE_ARCHITECTURES: Final = frozenset(
    {
        "LlamaForCausalLM", "EagleLlamaForCausalLM", "LlamaForCausalLMEagle",
        "Eagle3LlamaForCausalLM", "LlamaForCausalLMEagle3", "Eagle3Speculator",
        "EagleSpeculator", "Eagle3DraftModel",
    }
)  # fmt: skip
"""Names in the ``config.json`` of heads that vLLM builds from Llama's layers."""
ASSISTANTS: Final = ("gemma4_assistant", "gemma4_unified_assistant")
"""Types of drafters that are repositories of their own and share the model's KV cache."""
AUXILIARY_STATES: Final = 3
"""Hidden states of the model that EAGLE-3 reads where its config does not list them."""
INDEX_ELEMENTS: Final = 4
"""16-bit elements of an entry in the table from a smaller vocabulary to the model's (int64)."""


def own_draft(architecture: Architecture, method: str) -> Draft | None:
    """The model's own multi-token-prediction layers; None where the checkpoint has none.

    They share embedding and head with the model.
    """
    if not architecture.draft or architecture.dspark:
        return None
    quantization = architecture.quantization
    projections = architecture.draft_extra
    if quantization.method == "modelopt_fp4":
        # Stored in 16 bits and missing from the lists of what is (``qwen3_next_mtp.py``).
        projections = tuple(replace(one, kind="other") for one in projections)
    hidden = architecture.hidden_size
    return Draft(
        method=method,
        layers=architecture.draft,
        matrices=projections,
        elements=3 * hidden * len(architecture.draft),
        quantization=quantization,
        first_layer=architecture.layers,
    )


def whole_draft(draft: Architecture, method: str) -> Draft:
    """A draft model: all of it, without towers; it shares nothing."""
    head = () if draft.head is None else (draft.head,)
    return Draft(
        method=method,
        layers=tuple(draft.kinds[kind] for kind in draft.pattern),
        matrices=(draft.embedding, *head),
        elements=draft.extra_norms + draft.rotary_elements,
        quantization=draft.quantization,
        first_layer=0,
    )


def assistant_draft(config: Mapping[str, Any], target: Architecture) -> Draft:
    """Gemma 4's drafter by its ``config.json``: layers that read the model's own cache.

    They have no keys and values, and nothing is kept for them. The embedding is the model's; the
    head is the drafter's own. Source: vllm 0.33.0 ``models/gemma4_mtp.py``,
    ``v1/spec_decode/gemma4.py``; defaults of transformers 5.24 models/gemma4_assistant. Raises
    ``UnknownModel`` for another architecture and for a fact that is not understood.
    """
    top = Facts(config, MODEL_FIELD)
    if config.get("model_type") not in ASSISTANTS:
        raise top.refusal(
            "model_type",
            f"{shown(config.get('model_type'))} is none of {', '.join(ASSISTANTS)}",
        )
    backbone = top.count("backbone_hidden_size")
    if backbone != target.hidden_size:
        raise top.refusal(
            "backbone_hidden_size",
            f"is {backbone}, and the model's hidden_size {target.hidden_size}: "
            "it was made for another model",
        )
    text = top.part("text_config") or top
    hidden, heads, groups, size = attention_facts(text, size=256)
    bias = text.flag("attention_bias")
    dense = mlp(hidden, text.count("intermediate_size"))

    def one(dim: int) -> Layer:
        attends = attention(
            hidden, heads, groups, dim, bias=bias, output_bias=bias, query_key_norm=dim,
            shared_cache=True,
        )  # fmt: skip
        return layer(attends, dense, norms=4 * hidden + 1)

    narrow, wide = one(size), one(text.count("global_head_dim", size))
    number = text.count("num_hidden_layers")
    vocabulary = text.count("vocab_size")
    matrices = [
        Matrix("pre_projection", 2 * backbone, hidden, Split.OUTPUTS),
        Matrix("post_projection", hidden, backbone, Split.INPUTS),
        Matrix("lm_head", hidden, vocabulary, Split.VOCABULARY, kind="embedding"),
    ]
    elements = hidden
    if top.flag("use_ordered_embeddings"):
        centroids = top.count("num_centroids", 2048)
        matrices.append(
            Matrix("masked_embedding.centroids", hidden, centroids, Split.WHOLE, kind="other")
        )
        elements += vocabulary * INDEX_ELEMENTS
    return Draft(
        method="mtp",
        layers=tuple(narrow if slides else wide for slides in of_kind(text, number)),
        matrices=tuple(matrices),
        elements=elements,
        quantization=quantization_from_config(config) if _quantized(config) else UNQUANTIZED,
        first_layer=0,
    )


def eagle_draft(
    config: Mapping[str, Any],
    method: Literal["eagle", "eagle3"],
    target: Architecture,
    weight_bytes: int | None,
) -> Draft:
    """An EAGLE head by its ``config.json``.

    Whether a checkpoint has an embedding and a head of its own is not in its config: the bytes of
    its tensors decide, and where they are not known both are counted. Raises ``UnknownModel`` for
    an architecture or a fact that is not understood.
    """
    top = Facts(config, MODEL_FIELD)
    names = config.get("architectures")
    if (
        not isinstance(names, (list, tuple))
        or len(names) != 1
        or names[0] not in (EAGLE_ARCHITECTURES)
    ):
        raise top.refusal(
            "architectures", f"{shown(names)} is no EAGLE head that is made of Llama's layers"
        )
    nested = top.part("transformer_layer_config")
    text = nested if nested is not None else top
    hidden = text.count("hidden_size")
    heads = text.count("num_attention_heads")
    size = head_dim(text, hidden, heads)
    vocabulary = text.count("vocab_size")
    layers = _eagle_layers(text, method, hidden, heads, size)
    read = 2 * hidden
    if method == "eagle3":
        read = top.count("target_hidden_size", target.hidden_size)
        read *= top.count("num_aux_hidden_states", AUXILIARY_STATES)
    rows = top.count("draft_vocab_size", text.count("draft_vocab_size", vocabulary))
    projection = Matrix("fc", read, hidden, Split.WHOLE)
    embedding = Matrix("embed_tokens", hidden, vocabulary, Split.VOCABULARY, kind="embedding")
    head = Matrix("lm_head", hidden, rows, Split.VOCABULARY)
    positions = context_length_of(
        text.count("max_position_embeddings"), rope_scaling_of(text.config)
    )
    elements = hidden + positions * rotary_dim(text, size)
    elements += rows * INDEX_ELEMENTS if rows != vocabulary else 0
    quantization = quantization_from_config(config) if _quantized(config) else UNQUANTIZED
    own = (projection, head) if method == "eagle3" else (projection,)
    candidates = [own, (*own, embedding), (projection, head, embedding)]
    found = candidates[-1]
    if weight_bytes is not None:
        found = min(candidates, key=lambda one: abs(_bytes(layers, one) - weight_bytes))
    return Draft(method, layers, found, elements, quantization, target.layers)


def _eagle_layers(
    text: Facts, method: str, hidden: int, heads: int, size: int
) -> tuple[Layer, ...]:
    groups = key_value_heads(text, heads)
    attends = attention(hidden, heads, groups, size, bias=text.flag("attention_bias"))
    dense = mlp(hidden, text.count("intermediate_size"), bias=text.flag("mlp_bias"))
    usual = layer(attends, dense, norms=(3 if method == "eagle3" else 2) * hidden)
    if method != "eagle3":
        return (usual,) * text.count("num_hidden_layers", 1)
    # The first layer sees the embedding beside the hidden state.
    wide = tuple(
        replace(one, inputs=2 * hidden)
        if one.name.endswith(("q_proj", "k_proj", "v_proj"))
        else one
        for one in usual.matrices
    )
    first = replace(usual, matrices=wide)
    return (first, *(usual,) * (text.count("num_hidden_layers", 1) - 1))


def _quantized(config: Mapping[str, Any]) -> bool:
    return bool(config.get("quantization_config") or config.get("compression_config"))


def _bytes(layers: tuple[Layer, ...], matrices: tuple[Matrix, ...]) -> int:
    """Bytes of a 16-bit checkpoint with these parts."""
    total = sum(2 * one.parameters for one in layers)
    return total + sum(stored_bytes_of(one, None, 2) for one in matrices)
