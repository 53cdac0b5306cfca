"""What the readers of the families share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from vllm_operator.models.blocks import Part, layer, mlp
from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import Facts, shown
from vllm_operator.models.shapes import AttentionCache, Layer


@dataclass(frozen=True, slots=True)
class Decoder:
    """The decoder of a model: what its family's reader makes of the config."""

    layers: Sequence[Layer]
    attention_heads: int
    key_value_heads: int
    rotary_dims: tuple[int, ...]
    """Rotated dimensions of each rotary table that vLLM builds."""
    draft: tuple[Layer, ...] = ()
    draft_extra: tuple[Matrix, ...] = ()
    outside: tuple[Matrix, ...] = ()
    extra_norms: int = 0
    tied_by_default: bool = False
    always_tied: bool = False
    """Whether vLLM takes the embedding for the output head whatever the config says."""
    head_bias: bool = False
    rotary_bytes: int = 2
    indexed_tokens: int = 0
    """Tokens that sparse attention chooses for each query."""
    kept_states: int = 0
    """Hidden states of earlier layers that each later one attends to."""
    unbounded: bool = False
    """Whether it has no positions that would bound a request."""


PACKED: Final = {
    "q_proj": "query_key_value",
    "k_proj": "query_key_value",
    "v_proj": "query_key_value",
    "o_proj": "dense",
}
"""Matrices of an attention whose checkpoints pack queries, keys and values."""


def head_dim(facts: Facts, hidden: int, heads: int, default: int | None = None) -> int:
    """``head_dim``, or what stands for it where it is absent."""
    if facts.has("head_dim"):
        return facts.count("head_dim")
    if default is not None:
        return default
    if hidden % heads:
        raise facts.refusal(
            "head_dim",
            f"is missing, and hidden_size {hidden} is no multiple of num_attention_heads {heads}",
        )
    return hidden // heads


def key_value_heads(facts: Facts, heads: int, *, required: bool = False) -> int:
    """``num_key_value_heads``; all query heads where it is absent and not ``required``."""
    count = facts.count("num_key_value_heads", None if required else heads)
    if heads % count:
        raise facts.refusal(
            "num_key_value_heads", f"{count} does not divide num_attention_heads {heads}"
        )
    return count


def attention_facts(
    facts: Facts, *, size: int | None = None, required: bool = False
) -> tuple[int, int, int, int]:
    """``hidden_size``, heads, key/value heads and ``head_dim`` (``size`` where it is absent).

    ``required``: the number of key/value heads must be given.
    """
    hidden = facts.count("hidden_size")
    heads = facts.count("num_attention_heads")
    dim = head_dim(facts, hidden, heads, size)
    return hidden, heads, key_value_heads(facts, heads, required=required), dim


def routing(
    facts: Facts, number: str = "num_experts", active: str = "num_experts_per_tok"
) -> tuple[int, int]:
    """Number of experts and how many of them a token goes through, by the names of the facts."""
    experts, chosen = facts.count(number), facts.count(active)
    if chosen > experts:
        raise facts.refusal(active, f"is {chosen}, more than the {experts} experts of {number}")
    return experts, chosen


def rotary_dim(facts: Facts, size: int, default: float = 1.0) -> int:
    """Rotated dimensions of a head of ``size``; ``default``: their part where no fact says it."""
    if facts.has("rotary_dim"):
        return facts.count("rotary_dim")
    parameters = facts.part("rope_parameters")
    factor = facts.fraction("partial_rotary_factor", default)
    if parameters is not None and parameters.has("partial_rotary_factor"):
        factor = parameters.fraction("partial_rotary_factor", 1.0)
    return int(size * factor)


def refuse_where(facts: Facts, fact: str, because: str, *, says: bool = True) -> None:
    """Raise UnknownModel by the fact where it is ``says``: vLLM's model has no such part."""
    if facts.flag(fact, not says) is says:
        raise facts.refusal(fact, f"is {str(says).lower()}, and {because}")


def of_kind(facts: Facts, number: int, kind: str = "sliding_attention") -> list[bool]:
    """For each layer whether it is of the kind by ``layer_types``; the others have full attention.

    Raises UnknownModel for a third kind.
    """
    return [one == kind for one in layer_types(facts, number, ("full_attention", kind))]


def all_but_every(
    facts: Facts,
    number: int,
    every: int,
    *,
    kind: str = "sliding_attention",
    interval: str = "sliding_window_pattern",
) -> list[bool]:
    """For each layer whether it is of the kind: by ``layer_types``, or all but each ``every``-th.

    ``every`` is what holds where neither ``layer_types`` nor the fact ``interval`` is given.
    """
    if facts.has("layer_types"):
        return of_kind(facts, number, kind)
    step = facts.count(interval, every)
    return [bool((index + 1) % step) for index in range(number)]


def windowed(
    slides: Iterable[bool], window: int | None, attends: Part, feeds: Part, *, norms: int
) -> list[Layer]:
    """A layer for each of ``slides``, with the window (in tokens) where that is true."""
    assert isinstance(attends.cache, AttentionCache)
    full = layer(attends, feeds, norms=norms)
    sliding = replace(full, cache=replace(attends.cache, window=window))
    return [sliding if one else full for one in slides]


def layer_types(
    facts: Facts, layers: int, known: Sequence[str], *, fact: str = "layer_types"
) -> Sequence[str]:
    """``layer_types``, each one of ``known``; raises UnknownModel for another."""
    kinds = facts.list_of(fact, layers)
    for kind in kinds:
        if kind not in known:
            raise facts.refusal(fact, f"names {shown(kind)}, which this family does not have")
    return [str(kind) for kind in kinds]


def window_of(facts: Facts) -> int | None:
    """``sliding_window``, None where it is switched off or no request can outgrow it."""
    positions = facts.count("max_position_embeddings")
    if facts.config.get("use_sliding_window") is False or not facts.has("sliding_window"):
        return None
    window = facts.count("sliding_window")
    return None if window >= positions else window


def dense_then_routed(
    facts: Facts, hidden: int, attends: Part, routed: Part
) -> tuple[list[Layer], tuple[Layer, ...], tuple[Matrix, ...]]:
    """Layers of which the first have a dense MLP and the others experts; and the draft.

    The draft has layers of the latter kind.
    """
    dense = layer(attends, mlp(hidden, facts.count("intermediate_size")), norms=2 * hidden)
    sparse = layer(attends, routed, norms=2 * hidden)
    first = facts.count("first_k_dense_replace", 0, least=0)
    every = facts.count("moe_layer_freq", 1)
    layers = [
        sparse if index >= first and index % every == 0 else dense
        for index in range(facts.count("num_hidden_layers"))
    ]
    return layers, *drafts(facts, hidden, sparse)


def drafts(facts: Facts, hidden: int, one: Layer) -> tuple[tuple[Layer, ...], tuple[Matrix, ...]]:
    """Layers of multi-token prediction (``num_nextn_predict_layers``), and a projection each."""
    number = facts.count("num_nextn_predict_layers", 0, least=0)
    projection = Matrix("eh_proj", 2 * hidden, hidden, Split.WHOLE, kind="other")
    return (one,) * number, (projection,) * number


def routed_by_step(
    facts: Facts, hidden: int, attends: Part, routed: Part, dense: Part
) -> list[Layer]:
    """Layers with experts, but for ``mlp_only_layers`` and what ``decoder_sparse_step`` skips."""
    only = set(facts.numbers("mlp_only_layers", least=0))
    step = facts.count("decoder_sparse_step", 1)
    sparse, full = (layer(attends, feeds, norms=2 * hidden) for feeds in (routed, dense))
    return [
        full if index in only or (index + 1) % step else sparse
        for index in range(facts.count("num_hidden_layers"))
    ]


def repeated(facts: Facts, one: Layer) -> list[Layer]:
    """The same layer ``num_hidden_layers`` times."""
    return [one] * facts.count("num_hidden_layers")
