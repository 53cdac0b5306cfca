"""The parts that decoder layers are made of, as vLLM builds and divides them.

Source: vllm 0.33.0 ``model_executor/layers/linear.py``, ``fused_moe``, ``mamba`` and ``models``;
names are those of the checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .matrices import Matrix, Split
from .shapes import AttentionCache, Cache, LatentCache, Layer, StateCache


@dataclass(frozen=True, slots=True)
class Part:
    """What a part adds to its layer."""

    matrices: tuple[Matrix, ...]
    norms: int = 0
    cache: Cache | None = None
    intermediate: int = 0
    expert_intermediate: int = 0
    experts_per_token: int = 0
    query_heads: int = 0
    query_dim: int = 0
    value_dim: int = 0


def layer(*parts: Part, norms: int) -> Layer:
    """A layer of parts; ``norms`` are the elements of its own norms.

    What it keeps of a sequence is its first part's that keeps anything; a recurrent state that a
    later part keeps as well lies beside it.
    """
    kept = [part.cache for part in parts if part.cache is not None]
    beside = kept[1] if len(kept) > 1 else None
    assert beside is None or isinstance(beside, StateCache)
    return Layer(
        matrices=tuple(matrix for part in parts for matrix in part.matrices),
        norms=norms + sum(part.norms for part in parts),
        cache=kept[0] if kept else None,
        beside=beside,
        intermediate=max(part.intermediate for part in parts),
        expert_intermediate=max(part.expert_intermediate for part in parts),
        experts_per_token=max(part.experts_per_token for part in parts),
        query_heads=max(part.query_heads for part in parts),
        query_dim=max(part.query_dim for part in parts),
        value_dim=max(part.value_dim for part in parts),
    )


def called(part: Part, **names: str) -> Part:
    """The part with its matrices as a family's checkpoints call them: ``q_proj="wqkv"``.

    Lists of what is not quantised go by those names; equal ones are parts of one matrix.
    """
    matrices = []
    for one in part.matrices:
        head, dot, last = one.name.rpartition(".")
        matrices.append(replace(one, name=f"{head}{dot}{names.get(last, last)}"))
    return replace(part, matrices=tuple(matrices))


def attention(
    hidden: int,
    heads: int,
    key_value_heads: int,
    head_dim: int,
    *,
    value_dim: int | None = None,
    bias: bool = False,
    output_bias: bool = False,
    query_key_norm: int = 0,
    window: int | None = None,
    output_gate: bool = False,
    head_gate: bool = False,
    shared_cache: bool = False,
    key_is_value: bool = False,
    sinks: bool = False,
    prefix: str = "self_attn",
) -> Part:
    """Multi-head, grouped-query or multi-query attention.

    ``output_gate``: the query projection also gives a gate of the output's size; ``head_gate``: one
    gate a head; ``shared_cache``: keys and values are another layer's; ``key_is_value``: one
    projection serves both; ``query_key_norm``: elements of its norms.
    """
    value = head_dim if value_dim is None else value_dim
    query = heads * head_dim * (2 if output_gate else 1)
    split = Split.HEADS
    matrices = [Matrix(f"{prefix}.q_proj", hidden, query, Split.OUTPUTS, bias=bias)]
    if not shared_cache:
        matrices.append(
            Matrix(f"{prefix}.k_proj", hidden, key_value_heads * head_dim, split,
                   heads=key_value_heads, bias=bias)
        )  # fmt: skip
        if not key_is_value:
            matrices.append(
                Matrix(f"{prefix}.v_proj", hidden, key_value_heads * value, split,
                       heads=key_value_heads, bias=bias)
            )  # fmt: skip
    matrices.append(
        Matrix(f"{prefix}.o_proj", heads * value, hidden, Split.INPUTS, bias=output_bias)
    )
    if head_gate:
        matrices.append(Matrix(f"{prefix}.g_proj", hidden, heads, Split.OUTPUTS))
    cache = None if shared_cache else AttentionCache(key_value_heads, head_dim, value, window)
    return Part(
        tuple(matrices),
        norms=query_key_norm + (heads if sinks else 0),
        cache=cache,
        query_heads=heads,
        query_dim=head_dim,
        value_dim=value,
    )


def mlp(
    hidden: int,
    intermediate: int,
    *,
    gated: bool = True,
    bias: bool = False,
    whole: bool = False,
    prefix: str = "mlp",
) -> Part:
    """A dense MLP; ``whole``: every rank has all of it."""
    up = ("gate_proj", "up_proj") if gated else ("up_proj",)
    outputs, inputs = (Split.WHOLE,) * 2 if whole else (Split.OUTPUTS, Split.INPUTS)
    matrices = [Matrix(f"{prefix}.{name}", hidden, intermediate, outputs, bias=bias) for name in up]
    matrices.append(Matrix(f"{prefix}.down_proj", intermediate, hidden, inputs, bias=bias))
    return Part(tuple(matrices), intermediate=intermediate)


def experts(
    hidden: int,
    intermediate: int,
    number: int,
    active: int,
    *,
    gated: bool = True,
    bias: bool = False,
    shared: int = 0,
    shared_gate: bool = False,
    router_bias: bool = False,
    router_float32: bool = False,
    latent: int = 0,
    latent_norm: bool = False,
    smallest: int = 0,
    prefix: str = "mlp",
) -> Part:
    """A mixture of ``number`` experts, ``active`` of them for a token.

    ``shared``: width of the experts that every token goes through; ``shared_gate``: with a gate.
    ``latent``: width that the routed experts work in, into and out of which every rank projects
    (``latent_norm``: with a norm before the latter); ``smallest``: width of an expert's part to
    which ranks pad it.
    """
    width = latent or hidden
    up = ("gate_proj", "up_proj") if gated else ("up_proj",)
    kinds = [(name, width, intermediate, Split.OUTPUTS) for name in up]
    kinds.append(("down_proj", intermediate, width, Split.INPUTS))
    matrices = [
        Matrix(f"{prefix}.experts.{name}", inputs, outputs, split,
               experts=number, active=active, bias=bias, smallest=smallest)
        for name, inputs, outputs, split in kinds
    ]  # fmt: skip
    matrices.append(
        Matrix(f"{prefix}.gate", hidden, number, Split.WHOLE, kind="other", float32=router_float32)
    )
    if latent:
        matrices += [
            Matrix(f"{prefix}.routed_expert_down_proj", hidden, latent, Split.WHOLE, kind="other"),
            Matrix(f"{prefix}.routed_expert_up_proj", latent, hidden, Split.WHOLE, kind="other"),
        ]
    if shared:
        matrices.extend(
            mlp(hidden, shared, gated=gated, prefix=f"{prefix}.shared_experts").matrices
        )
    if shared_gate:
        matrices.append(
            Matrix(f"{prefix}.shared_expert_gate", hidden, 1, Split.WHOLE, kind="other")
        )
    return Part(
        tuple(matrices),
        norms=(number if router_bias else 0) + (latent if latent_norm else 0),
        intermediate=shared,
        expert_intermediate=intermediate,
        experts_per_token=active,
    )


def latent_attention(
    hidden: int,
    heads: int,
    *,
    query_rank: int,
    rank: int,
    nope_dim: int,
    rope_dim: int,
    value_dim: int,
    index_heads: int = 0,
    index_dim: int = 0,
    bias: bool = False,
    output_gate: bool = False,
) -> Part:
    """Multi-head latent attention, with the indexer of sparse attention where it has heads.

    ``output_gate``: what each head gives is gated.

    The down-projections and the indexer are whole on every rank (vllm ``models/deepseek_v2.py``).
    """
    query = heads * (nope_dim + rope_dim)
    name = "self_attn"
    norms = rank
    if query_rank:
        matrices = [
            Matrix(f"{name}.q_a_proj", hidden, query_rank, Split.WHOLE, bias=bias),
            Matrix(f"{name}.q_b_proj", query_rank, query, Split.OUTPUTS),
        ]
        norms += query_rank
    else:
        matrices = [Matrix(f"{name}.q_proj", hidden, query, Split.OUTPUTS)]
    matrices += [
        Matrix(f"{name}.kv_a_proj_with_mqa", hidden, rank + rope_dim, Split.WHOLE, bias=bias),
        Matrix(f"{name}.kv_b_proj", rank, heads * (nope_dim + value_dim), Split.OUTPUTS),
        Matrix(f"{name}.o_proj", heads * value_dim, hidden, Split.INPUTS, bias=bias),
    ]
    if output_gate:
        matrices.append(Matrix(f"{name}.g_proj", hidden, heads * value_dim, Split.OUTPUTS))
    if index_heads:
        matrices += [
            Matrix(f"{name}.indexer.wq_b", query_rank, index_heads * index_dim, Split.WHOLE),
            Matrix(f"{name}.indexer.wk", hidden, index_dim, Split.WHOLE),
            Matrix(f"{name}.indexer.weights_proj", hidden, index_heads, Split.WHOLE, kind="other"),
        ]
        norms += 2 * index_dim
    return Part(
        tuple(matrices),
        norms=norms,
        cache=LatentCache(rank, rope_dim, index_dim if index_heads else 0),
        query_heads=heads,
        query_dim=nope_dim + rope_dim,
        value_dim=value_dim,
    )


def gated_delta_net(
    hidden: int,
    *,
    key_heads: int,
    value_heads: int,
    key_dim: int,
    value_dim: int,
    kernel: int,
    state_bytes: int,
) -> Part:
    """The gated delta net of Qwen3-Next and Qwen3.5 (vllm ``models/qwen3_next.py``)."""
    keys, values = key_heads * key_dim, value_heads * value_dim
    name = "linear_attn"
    channels = 2 * keys + values
    return Part(
        (
            Matrix(f"{name}.in_proj_qkv", hidden, channels, Split.OUTPUTS),
            Matrix(f"{name}.in_proj_z", hidden, values, Split.OUTPUTS),
            Matrix(f"{name}.in_proj_ba", hidden, 2 * value_heads, Split.OUTPUTS),
            Matrix(f"{name}.conv1d", kernel, channels, Split.OUTPUTS, kind="other"),
            Matrix(f"{name}.out_proj", values, hidden, Split.INPUTS),
        ),
        norms=2 * value_heads + value_dim,
        cache=StateCache(
            "gdn", channels, kernel, value_heads * key_dim * value_dim,
            state_bytes=state_bytes, heads=value_heads,
        ),
    )  # fmt: skip


def kimi_delta_attention(
    hidden: int, *, heads: int, head_dim: int, kernel: int, full_rank: bool = False
) -> Part:
    """The delta attention of Kimi Linear, and of Kimi K3, whose output gate has ``full_rank``.

    Source: vllm 0.33.0 ``layers/mamba/gdn/kimi_gdn_linear_attn.py`` and
    ``models/kimi_k3/nvidia/kda.py``: convolutions, decays and
    their biases are kept in float32, as is the state (``mamba_utils.py``, ``kda_state_dtype``).
    """
    width = heads * head_dim
    name = "self_attn"
    full = ("q_proj", "k_proj", "v_proj", *(("g_proj",) if full_rank else ()))
    low = ("f",) if full_rank else ("f", "g")
    wide = [Matrix(f"{name}.{one}", hidden, width, Split.OUTPUTS) for one in full]
    gates = [Matrix(f"{name}.{gate}_a_proj", hidden, head_dim, Split.WHOLE) for gate in low] + [
        Matrix(f"{name}.{gate}_b_proj", head_dim, width, Split.OUTPUTS) for gate in low
    ]
    return Part(
        (
            *wide,
            *gates,
            Matrix(f"{name}.b_proj", hidden, heads, Split.OUTPUTS),
            Matrix(f"{name}.conv1d", kernel, 3 * width, Split.OUTPUTS, kind="other", float32=True),
            # Of each head a decay, of each of its dimensions a bias.
            Matrix(f"{name}.dt_bias", 1, width, Split.OUTPUTS, kind="other", float32=True),
            Matrix(f"{name}.A_log", 1, heads, Split.OUTPUTS, kind="other", float32=True),
            Matrix(f"{name}.o_proj", width, hidden, Split.INPUTS),
        ),
        norms=head_dim,
        cache=StateCache(
            "kda_full" if full_rank else "kda", 3 * width, kernel, width * head_dim,
            state_bytes=4, heads=heads,
        ),
    )  # fmt: skip


def mamba1(
    hidden: int, *, inner: int, state: int, kernel: int, rank: int, conv_bias: bool, bias: bool
) -> Part:
    """A Mamba layer with Jamba's norms (vllm ``layers/mamba/mamba_mixer.py``)."""
    name = "mamba"
    return Part(
        (
            Matrix(f"{name}.in_proj", hidden, 2 * inner, Split.OUTPUTS, bias=bias),
            Matrix(f"{name}.conv1d", kernel, inner, Split.OUTPUTS, bias=conv_bias, kind="other"),
            Matrix(f"{name}.x_proj", inner, rank + 2 * state, Split.INPUTS),
            Matrix(f"{name}.dt_proj", rank, inner, Split.OUTPUTS, bias=True),
            Matrix(f"{name}.A", state, inner, Split.OUTPUTS, kind="other", float32=True),
            Matrix(f"{name}.out_proj", inner, hidden, Split.INPUTS, bias=bias),
        ),
        norms=inner + rank + 2 * state,
        cache=StateCache("mamba1", inner, kernel, inner * state, heads=inner),
    )


def mamba2(
    hidden: int,
    *,
    heads: int,
    head_dim: int,
    groups: int,
    state: int,
    kernel: int,
    conv_bias: bool,
    bias: bool,
    state_bytes: int,
    norm: bool = True,
    prefix: str = "mixer",
) -> Part:
    """A Mamba2 layer, without ``norm`` one that gates alone (vllm ``mamba_mixer2.py``)."""
    inner = heads * head_dim
    shared = 2 * groups * state
    # One matrix each, of which ranks have their heads' part and, of few groups, whole ones.
    return Part(
        (
            Matrix(f"{prefix}.in_proj", hidden, 2 * inner + heads, Split.OUTPUTS, bias=bias),
            Matrix(f"{prefix}.in_proj", hidden, shared, Split.GROUPS, heads=groups, bias=bias),
            Matrix(f"{prefix}.conv1d", kernel, inner, Split.OUTPUTS, bias=conv_bias,
                   kind="other"),
            Matrix(f"{prefix}.conv1d", kernel, shared, Split.GROUPS, heads=groups,
                   bias=conv_bias, kind="other"),
            Matrix(f"{prefix}.out_proj", inner, hidden, Split.INPUTS, bias=bias),
        ),
        norms=3 * heads + (inner if norm else 0),
        cache=StateCache(
            "mamba2", inner, kernel, heads * head_dim * state,
            state_bytes=state_bytes, groups=groups, group_state=2 * state, heads=heads,
        ),
    )  # fmt: skip


def short_convolution(width: int, kernel: int, *, bias: bool, prefix: str = "conv") -> Part:
    """LFM2's gated convolution over few tokens (vllm ``layers/mamba/short_conv.py``)."""
    return Part(
        (
            Matrix(f"{prefix}.in_proj", width, 3 * width, Split.OUTPUTS, bias=bias),
            Matrix(f"{prefix}.conv", kernel, width, Split.OUTPUTS, bias=bias, kind="other"),
            Matrix(f"{prefix}.out_proj", width, width, Split.INPUTS, bias=bias),
        ),
        cache=StateCache("short_conv", width, kernel, 0),
    )
