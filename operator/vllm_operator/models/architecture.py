"""From a ``config.json`` to the shapes of a model.

A config is understood whole or refused by the name of the fact that is not understood. The readers
of the families stand in ``families``, towers for pictures and sound in ``towers``, what shrinks the
weights in ``quantization``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from vllm_operator.errors import UnknownModel

from .families import FAMILIES, Family
from .families.refused import REFUSED
from .matrices import Matrix, Split
from .pictures import pictures_of
from .quantization import quantization_from_config, relevant_quantization
from .reader import FIELD, RUNNER, Facts, shown
from .rope import context_length_of, is_yarn, rope_scaling_of
from .shapes import Architecture, DataType, Layer
from .towers import towers_of

__all__ = ["FIELD", "Architecture", "architecture_from_config", "decoder_of", "relevant_facts"]

UNREAD: Final = frozenset(
    {
        "_name_or_path", "_attn_implementation_autoset", "architectures_", "auto_map",
        "bos_token_id", "eos_token_id", "pad_token_id", "id2label", "label2id",
        "initializer_range", "transformers_version", "use_cache", "attention_dropout",
        "hidden_dropout", "router_aux_loss_coef", "output_router_logits", "hidden_act",
        "rms_norm_eps", "rope_theta", "pretraining_tp", "swiglu_limits", "swiglu_limits_shared",
        "chunk_size_feed_forward", "output_attentions", "output_hidden_states", "return_dict",
        "num_logits_to_keep", "hidden_activation", "torchscript", "task_specific_params",
        "problem_type", "prefix", "generation_config", "chat_template", "license",
    }
)  # fmt: skip
"""Facts without influence on sizing that most configs carry: not kept in the plan."""


POOLING_SUFFIXES: Final = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "EmbeddingModel",
    "Model",
)
"""Ends of names for which vLLM takes the generating architecture's decoder and pools what it gives
(0.33.0 ``config/model.py``, ``_SUFFIX_TO_DEFAULTS``); not reward models, which have own heads."""

STRUCTURE: Final = (
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "moe_num_experts",
    "kv_lora_rank",
    "linear_num_value_heads",
)
"""Facts that say what layers are made of: one that nobody read is not understood."""


def relevant_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """A ``config.json`` without what no sizing reads, sorted; null counts as absent."""
    try:
        quantization = relevant_quantization(config)
    except UnknownModel:
        return _kept(config)  # what cannot be read is shown as it is
    kept = _kept(config)
    for holder in (kept, kept.get("text_config"), kept.get("llm_config")):
        if isinstance(holder, dict):
            holder.pop("quantization_config", None)
            holder.pop("compression_config", None)
    if quantization:
        kept["quantization_config"] = quantization["quantization_config"]
    return dict(sorted(kept.items()))


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _kept(config[key]) if isinstance(config[key], Mapping) else config[key]
        for key in sorted(config)
        if config[key] is not None and key not in UNREAD
    }


def architecture_from_config(config: Mapping[str, Any]) -> Architecture:
    """Read a ``config.json``; equal ones give the same object, which later figures are kept by.

    Raises ``UnknownModel`` with the field ``spec.model.config.<fact>`` for the first fact that is
    missing, malformed or not supported.
    """
    try:
        text = json.dumps(config, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return _read(config)
    return _read_once(text)


@lru_cache(maxsize=256)
def _read_once(text: str) -> Architecture:
    return _read(json.loads(text))


def _read(config: Mapping[str, Any]) -> Architecture:
    top = Facts(config)
    name, family = _family(top)
    pooling = _pooling(top, name)
    _refuse(top, family)
    text = _text_facts(top, family)
    decoder = family.read(text)
    _refuse_unread(text, family)
    hidden = text.count("hidden_size")
    vocabulary = text.count("vocab_size")
    positions = text.count("max_position_embeddings", family.positions)
    scaling = None if family.ignores_rope_factor else rope_scaling_of(text.config)
    context = context_length_of(positions, scaling)
    tied = text.flag(
        "tie_word_embeddings", top.flag("tie_word_embeddings", decoder.tied_by_default)
    )
    tied = tied or decoder.always_tied
    kinds: dict[Layer, int] = {}
    pattern = tuple(kinds.setdefault(layer, len(kinds)) for layer in decoder.layers)
    towers = towers_of(config) if family.multimodal else ()
    rows = context * family.rotary_rows
    embedding = Matrix("embed_tokens", hidden, vocabulary, Split.VOCABULARY, kind="embedding")
    return Architecture(
        name=name,
        hidden_size=hidden,
        kinds=tuple(kinds),
        pattern=pattern,
        embedding=embedding,
        head=None
        if tied or pooling
        else replace(embedding, name="lm_head", kind="linear", bias=decoder.head_bias),
        extra_norms=hidden + decoder.extra_norms,
        attention_heads=decoder.attention_heads,
        key_value_heads=decoder.key_value_heads,
        vocabulary_size=vocabulary,
        context_length=context,
        stated_length=positions if is_yarn(scaling) and positions != context else None,
        rotary_elements=rows * sum(decoder.rotary_dims) * decoder.rotary_bytes // 2,
        dtype=_dtype(top, text),
        quantization=quantization_from_config(config),
        outside=(*decoder.outside, *(one for tower in towers for one in tower.matrices)),
        outside_norms=sum(tower.norms for tower in towers),
        encoder_heads=math.gcd(*(tower.heads for tower in towers)),
        indexed_tokens=decoder.indexed_tokens,
        kept_states=decoder.kept_states,
        unbounded=decoder.unbounded,
        draft=decoder.draft,
        draft_extra=decoder.draft_extra,
        dspark=text.has("dspark_block_size"),
        multimodal=family.multimodal,
        pooling=pooling,
        pictures=pictures_of(name, config, hidden, towers),
    )


def _family(top: Facts) -> tuple[str, Family]:
    names = top.config.get("architectures")
    if names is None:
        model_type = top.config.get("model_type")
        for name, family in FAMILIES.items():
            if family.model_type == model_type:
                return name, family
        raise top.refusal(
            "architectures",
            f"is missing, and model_type {shown(model_type)} does not stand for one of "
            f"{', '.join(FAMILIES)}; give the model's config.json as it is",
        )
    if not isinstance(names, (list, tuple)) or len(names) != 1 or not isinstance(names[0], str):
        raise top.refusal("architectures", f"must be a list of one name, and is {shown(names)}")
    found = decoder_of(names[0])
    if found is None and names[0] in REFUSED:
        raise top.refusal("architectures", f"{shown(names[0])} {REFUSED[names[0]]}")
    if found is None:
        raise top.refusal(
            "architectures",
            f"{shown(names[0])} cannot be sized in this release, which knows {', '.join(FAMILIES)}",
        )
    return names[0], FAMILIES[found]


def decoder_of(name: str) -> str | None:
    """The architecture whose decoder a name stands for; None where it is not known.

    The name itself, or the generating one of a name that vLLM converts (``POOLING_SUFFIXES``).
    """
    if name in FAMILIES:
        return name
    for suffix in POOLING_SUFFIXES:
        base = name.removesuffix(suffix)
        if base != name and f"{base}ForCausalLM" in FAMILIES:
            return f"{base}ForCausalLM"
    return None


def _pooling(top: Facts, name: str) -> bool:
    """Whether vLLM chooses the pooling runner: by the architecture's name, or as ``runner`` says.

    Source: vllm 0.33.0 ``config/model.py``, ``_get_default_runner_type`` (the same from 0.8 on):
    sentence-transformers' ``modules.json`` first, then the name. ``config.json`` knows nothing of
    the former, so that catalogue and Hub put it in as ``runner``, the name of vLLM's flag.
    """
    value = top.config.get(RUNNER)
    if value is None:
        return name not in FAMILIES
    if value not in ("pooling", "generate"):
        raise top.refusal(RUNNER, f"{shown(value)} is neither pooling nor generate")
    return bool(value == "pooling")


def _refuse(top: Facts, family: Family) -> None:
    if top.config.get("is_encoder_decoder"):
        raise top.refusal("is_encoder_decoder", "an encoder-decoder cannot be sized")
    for fact in ("vision_config", "audio_config", "text_config", "llm_config"):
        if not family.multimodal and top.has(fact):
            raise top.refusal(fact, f"{family.label} models have no such part")
    if top.config.get("is_causal") is False:
        raise top.refusal(
            "is_causal", "attention in both directions keeps no cache and cannot be sized"
        )
    if top.has("dual_chunk_attention_config"):
        raise top.refusal(
            "dual_chunk_attention_config", "dual-chunk attention cannot be sized in this release"
        )


def _refuse_unread(text: Facts, family: Family) -> None:
    """Refuse what gives a model another structure than its architecture's reader knows."""
    for fact in STRUCTURE:
        if text.config.get(fact) and fact not in text.read:
            raise text.refusal(
                fact, f"is {shown(text.config[fact])}, which {family.label} models do not have"
            )


def _text_facts(top: Facts, family: Family) -> Facts:
    """The facts of the decoder: ``text_config`` where there is one, else the whole config."""
    text = top.part(family.text) if family.multimodal else None
    found = text if text is not None else top
    if not family.text_defaults and not family.spellings:
        return found
    return Facts({**family.text_defaults, **_given(found.config)}, found.path, family.spellings)


def _given(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


def _dtype(top: Facts, text: Facts) -> DataType:
    for facts in (text, top):
        fact = facts.first("torch_dtype", "dtype")
        if not facts.has(fact):
            continue
        value = facts.config[fact]
        match str(value).removeprefix("torch."):
            case "bfloat16":
                return "bfloat16"
            case "float16" | "half":
                return "float16"
            case "float32" | "float":
                return "float32"
        raise facts.refusal(fact, f"{shown(value)} is none of bfloat16, float16 and float32")
    # Newer configs leave it to the checkpoint's header, which then names two bytes.
    return "bfloat16"
