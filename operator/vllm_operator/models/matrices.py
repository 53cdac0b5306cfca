"""Weight matrices: how many elements they have, and what of them lies on one rank.

Counts, but for ``stored_bytes_of``: how many bytes an element takes is the quantisation's business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal

from .quantization import Scheme

VOCABULARY_PADDING: Final = 64
"""``DEFAULT_VOCAB_PADDING_SIZE`` of vllm 0.33.0 ``layers/vocab_parallel_embedding.py``."""


class Split(Enum):
    """How tensor parallelism divides a matrix (vllm 0.33.0 ``model_executor/layers/linear.py``)."""

    OUTPUTS = "outputs"
    """Column parallel: each rank has its share of the outputs, and of the bias."""
    INPUTS = "inputs"
    """Row parallel: each rank has its share of the inputs; the bias is whole on every rank."""
    HEADS = "heads"
    """As OUTPUTS, in whole heads; with fewer heads than ranks, heads are replicated."""
    GROUPS = "groups"
    """As HEADS, but more than one group must be divided evenly (``layers/mamba/mamba_mixer2.py``).
    """
    VOCABULARY = "vocabulary"
    """Outputs padded to a multiple of 64, then divided."""
    WHOLE = "whole"
    """Replicated on every rank."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight matrix: ``outputs`` x ``inputs`` elements and, with ``bias``, ``outputs`` more."""

    name: str
    """Name below its layer, as checkpoints have it: ``self_attn.q_proj``."""
    inputs: int
    outputs: int
    split: Split
    heads: int = 0
    """Heads or groups that ``outputs`` consist of, where the split is HEADS or GROUPS. Of an
    encoder those that decide whether ranks divide it: they do where these are divided evenly."""
    bias: bool = False
    experts: int = 0
    """Routed experts that have one such matrix each; 0 where it is no expert's."""
    active: int = 0
    """Experts that one token goes through, where it is an expert's."""
    copies: int = 1
    """How often the same shape stands in the module (the equal layers of a vision tower)."""
    smallest: int = 0
    """Width of an expert that each rank has at least: smaller parts are padded to it."""
    kind: Literal["linear", "embedding", "other"] = "linear"
    """Only ``linear`` ones are quantised; ``other``: convolutions, routers kept in full, tables."""
    float32: bool = False
    """Whether vLLM keeps it in four bytes whatever the model's data type."""

    @property
    def parameters(self) -> int:
        """Elements in the checkpoint."""
        one = self.outputs * self.inputs + (self.outputs if self.bias else 0)
        return one * max(1, self.experts) * self.copies

    def on_rank(self, tensor: int, expert_ranks: int = 1, *, whole_experts: bool = False) -> Shard:
        """The part on the fullest of ``tensor`` ranks.

        Routed experts are divided over ``expert_ranks`` (tensor x data parallel ranks): their
        intermediate dimension, or with ``whole_experts`` (expert parallelism) their number.
        """
        inputs, outputs, copies = self.inputs, self.outputs, self.copies
        bias = outputs if self.bias else 0
        ranks = tensor
        if self.experts:
            copies *= -(-self.experts // expert_ranks) if whole_experts else self.experts
            ranks = 1 if whole_experts else expert_ranks
        if self.split in (Split.OUTPUTS, Split.INPUTS) and self.heads and self.heads % ranks:
            pass
        elif self.split is Split.OUTPUTS:
            outputs = max(-(-outputs // ranks), self.smallest)
            bias = -(-bias // ranks)
        elif self.split is Split.INPUTS:
            inputs = max(-(-inputs // ranks), self.smallest)
        elif self.split in (Split.HEADS, Split.GROUPS):
            outputs = outputs // self.heads * max(1, self.heads // ranks)
            bias = outputs if self.bias else 0
        elif self.split is Split.VOCABULARY:
            outputs = padded_vocabulary(outputs) // ranks
            bias = outputs if self.bias else 0
        return Shard(inputs, outputs, bias, copies)


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of a matrix on one rank: ``copies`` times ``outputs`` x ``inputs`` and a bias."""

    inputs: int
    outputs: int
    bias: int
    copies: int


def padded_vocabulary(vocabulary_size: int) -> int:
    """Rows of the embedding as vLLM allocates them."""
    return -(-vocabulary_size // VOCABULARY_PADDING) * VOCABULARY_PADDING


def stored_bytes_of(matrix: Matrix, scheme: Scheme | None, element: int) -> int:
    """Bytes of a whole matrix in the checkpoint, before any padding."""
    copies = max(1, matrix.experts) * matrix.copies
    bias = matrix.outputs * element if matrix.bias else 0
    if scheme is None:
        return copies * (matrix.inputs * matrix.outputs * element + bias)
    unpadded = replace(scheme, pad_inputs=1, pad_outputs=1)
    return copies * (unpadded.bytes(matrix.inputs, matrix.outputs) + bias)
