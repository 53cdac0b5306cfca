"""What a layer keeps of a sequence: counts of elements, before they are divided over GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AttentionCache:
    """Keys and values of one layer with multi-head, grouped-query or multi-query attention."""

    heads: int
    key_dim: int
    value_dim: int
    window: int | None = None
    """Tokens that are kept, where the layer attends to a sliding window."""
    indexer_dim: int = 0
    """Elements of the key of each token that blocks are chosen by, in 16 bits and the same on every
    rank; 0 where all tokens are attended to."""


@dataclass(frozen=True, slots=True)
class LatentCache:
    """The compressed state of multi-head latent attention: the same on every rank."""

    rank: int
    rope_dim: int
    indexer_dim: int = 0
    """Head dimension of the indexer's keys (sparse attention); 0 where there is none."""


@dataclass(frozen=True, slots=True)
class StateCache:
    """A recurrent layer: a state of constant size for each sequence.

    Element counts before tensor parallelism, which divides both.
    """

    kind: Literal["mamba1", "mamba2", "gdn", "kda", "kda_full", "linear", "short_conv"]
    convolution: int
    """Channels of the convolution's window."""
    convolution_kernel: int
    """Width of the convolution; ``kernel - 1`` columns are kept."""
    state: int
    """Elements of the recurrent state."""
    state_bytes: int = 2
    """Bytes of one element of the recurrent state."""
    groups: int = 0
    """Mamba2's groups; extended so that tensor parallelism divides them."""
    group_state: int = 0
    """Convolution channels that one group adds (2 x state size)."""
    heads: int = 0
    """Heads that tensor parallelism divides."""


@dataclass(frozen=True, slots=True)
class CompressedCache:
    """DeepSeek-V4: the latest states of a window and, of all tokens, one state for several."""

    dim: int
    """Elements of a state, rotated ones included."""
    rope_dim: int
    window: int
    """Tokens whose states are kept as they are."""
    ratio: int
    """Tokens that share a compressed state; 0 where there is only the window."""
    indexer_dim: int = 0
    """Head dimension of the indexer's keys, one for each compressed state; 0 where there is none.
    """


Cache = AttentionCache | LatentCache | CompressedCache | StateCache
