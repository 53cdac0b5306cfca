"""Dense decoders with ordinary attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vllm_operator.models.blocks import Part, attention, experts, layer, mamba2, mlp
from vllm_operator.models.reader import Facts, shown
from vllm_operator.models.shapes import Layer

from .common import (
    Decoder,
    attention_facts,
    head_dim,
    layer_types,
    of_kind,
    repeated,
    rotary_dim,
    routing,
    window_of,
    windowed,
)


def llama_like(
    facts: Facts,
    *,
    query_key_value_bias: str = "attention_bias",
    output_bias: str = "attention_bias",
    mlp_bias: str = "mlp_bias",
    query_key_norm: bool = False,
    size: int | None = None,
    required: bool = False,
    tied_by_default: bool = False,
) -> Decoder:
    """Llama and what is built like it; bias arguments are facts, or "yes", or "no".

    ``size`` and ``required`` are those of ``attention_facts``.
    Source: transformers 4.57 and vllm 0.33.0 ``models/llama.py``, ``qwen2.py``, ``qwen3.py``.
    """

    def bias(rule: str) -> bool:
        return rule == "yes" or (rule != "no" and facts.flag(rule, False))

    hidden, heads, groups, size = attention_facts(facts, size=size, required=required)
    window = window_of(facts)
    number = facts.count("num_hidden_layers")
    dense = mlp(hidden, facts.count("intermediate_size"), bias=bias(mlp_bias))
    attends = attention(
        hidden, heads, groups, size,
        bias=bias(query_key_value_bias), output_bias=bias(output_bias),
        query_key_norm=2 * size if query_key_norm else 0,
    )  # fmt: skip
    if facts.has("layer_types"):
        slides = of_kind(facts, number)
    elif window is not None and facts.has("max_window_layers"):
        # transformers 4.57 models/qwen2/configuration_qwen2.py: the first layers stay full.
        whole = facts.count("max_window_layers", least=0)
        slides = [index >= whole for index in range(number)]
    else:
        slides = [True] * number
    layers = windowed(slides, window, attends, dense, norms=2 * hidden)
    rotary = (rotary_dim(facts, size),)
    return Decoder(layers, heads, groups, rotary, tied_by_default=tied_by_default)


def opt(facts: Facts) -> Decoder:
    """OPT: learned positions, biases everywhere (transformers 4.57 models/opt)."""
    hidden = facts.count("hidden_size")
    if facts.count("word_embed_proj_dim", hidden) != hidden:
        raise facts.refusal("word_embed_proj_dim", "must equal hidden_size")
    heads = facts.count("num_attention_heads")
    size = head_dim(facts, hidden, heads)
    one = layer(
        attention(hidden, heads, heads, size, bias=True, output_bias=True),
        mlp(hidden, facts.count("ffn_dim"), gated=False, bias=True),
        norms=4 * hidden,
    )
    # OPT's table has two rows more than it has positions (modeling_opt.py, offset = 2).
    positions = (facts.count("max_position_embeddings") + 2) * hidden
    return Decoder(
        repeated(facts, one), heads, heads, (), extra_norms=positions + hidden, tied_by_default=True
    )


def starcoder2(facts: Facts) -> Decoder:
    """StarCoder2: an MLP without a gate, biases, layer norms (transformers 4.57)."""
    hidden, heads, groups, size = attention_facts(facts)
    bias = facts.flag("use_bias", True)
    window = window_of(facts)
    one = layer(
        attention(hidden, heads, groups, size, bias=bias, output_bias=bias, window=window),
        mlp(hidden, facts.count("intermediate_size"), gated=False, bias=bias),
        norms=4 * hidden,
    )
    return Decoder(
        repeated(facts, one), heads, groups, (size,), extra_norms=hidden, tied_by_default=True
    )


GRANITE_LAYERS: Final = {
    "attention": "attention",
    "full_attention": "attention",
    "mamba": "mamba",
    "linear_attention": "mamba",
}
"""Names of Granite 4's layers, older and newer (transformers 5 renamed them)."""


def granite_hybrid(facts: Facts) -> Decoder:
    """Granite 4: attention and Mamba2 layers, a shared MLP, experts or both.

    Source: vllm 0.33.0 ``models/granitemoehybrid.py``. Heads have hidden_size / heads dimensions.
    """
    hidden, heads, groups, size = attention_facts(facts)
    number = facts.count("num_hidden_layers")
    fact = facts.first("layer_types", "layers_block_type")
    kinds = layer_types(facts, number, tuple(GRANITE_LAYERS), fact=fact)
    bias = facts.flag("attention_bias")
    feeds: list[Part] = []
    if facts.count("num_local_experts", 0, least=0):
        feeds.append(
            experts(
                hidden,
                facts.count("intermediate_size"),
                *routing(facts, "num_local_experts"),
                prefix="block_sparse_moe",
            )
        )
    if shared := facts.count("shared_intermediate_size", 0, least=0):
        feeds.append(mlp(hidden, shared, prefix="shared_mlp"))
    built: dict[str, Layer] = {}
    named = {GRANITE_LAYERS[kind] for kind in kinds}
    if "attention" in named:
        attends = attention(hidden, heads, groups, size, bias=bias, output_bias=bias)
        built["attention"] = layer(attends, *feeds, norms=2 * hidden)
    if "mamba" in named:
        state = mamba2(
            hidden,
            heads=facts.count("mamba_n_heads"),
            head_dim=facts.count("mamba_d_head"),
            groups=facts.count("mamba_n_groups"),
            state=facts.count("mamba_d_state"),
            kernel=facts.count("mamba_d_conv"),
            conv_bias=facts.flag("mamba_conv_bias", True),
            bias=facts.flag("mamba_proj_bias"),
            state_bytes=2,
            prefix="mamba",
        )
        built["mamba"] = layer(state, *feeds, norms=2 * hidden)
    rotates = facts.config.get("position_embedding_type", "rope") == "rope"
    return Decoder(
        layers=[built[GRANITE_LAYERS[kind]] for kind in kinds],
        attention_heads=heads,
        key_value_heads=groups,
        rotary_dims=(size,) if rotates else (),
        tied_by_default=True,
    )


def decilm(facts: Facts) -> Decoder:
    """Nemotron-NAS: layers of different widths, some without attention (vllm nemotron_nas.py)."""
    hidden = facts.count("hidden_size")
    heads = facts.count("num_attention_heads")
    size = head_dim(facts, hidden, heads)
    number = facts.count("num_hidden_layers")
    layers = []
    fewest = heads
    for index, block in enumerate(facts.list_of("block_configs", number)):
        if not isinstance(block, Mapping):
            raise facts.refusal(
                f"block_configs[{index}]", f"must be an object, and is {shown(block)}"
            )
        part = Facts(block, f"{facts.path}.block_configs[{index}]")
        attends, feeds = part.part("attention"), part.part("ffn")
        parts = []
        norms = 0
        if attends is not None and not attends.flag("no_op"):
            if attends.flag("replace_with_linear"):
                raise attends.refusal("replace_with_linear", "is not known to sizing")
            groups = heads // _heads_in_group(attends, heads)
            fewest = min(fewest, groups)
            parts.append(attention(hidden, heads, groups, size))
            norms += hidden
        if feeds is not None and not feeds.flag("no_op"):
            if feeds.flag("replace_with_linear"):
                raise feeds.refusal("replace_with_linear", "is not known to sizing")
            # transformers_utils: the width is a multiple of 256 from 2/3 of ffn_mult x hidden.
            width = -(-int(2 * feeds.number("ffn_mult", 1.0) * hidden / 3) // 256) * 256
            parts.append(mlp(hidden, width))
            norms += hidden
        if not parts:
            raise part.refusal("attention", "a layer with neither attention nor MLP is not known")
        layers.append(layer(*parts, norms=norms))
    return Decoder(layers, heads, fewest, (size,))


def _heads_in_group(attends: Facts, heads: int) -> int:
    count = attends.count("n_heads_in_group")
    if heads % count:
        raise attends.refusal("n_heads_in_group", f"{count} does not divide {heads} heads")
    return count
