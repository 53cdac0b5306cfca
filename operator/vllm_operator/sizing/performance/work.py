"""What a model asks of the GPUs: operations and bytes of every part of every pipeline stage."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vllm_operator.models.matrices import Matrix, padded_vocabulary
from vllm_operator.models.shapes import Architecture, AttentionCache, LatentCache, Layer, StateCache
from vllm_operator.sizing.split.parallelism import Parallelism
from vllm_operator.sizing.split.stages import stage_ranges

ACTIVATION_BYTES: Final = 2
"""Bytes of an element between layers: bfloat16 or float16."""
SPARSE_TOKENS: Final = 2048
"""``index_topk`` of DeepSeek-V3.2 and GLM-5: tokens that sparse attention attends to."""


@dataclass(frozen=True, slots=True)
class Multiplication:
    """Equal matrices of a stage on one rank, all copies together."""

    flops: float
    """Operations for one token; of routed experts, for one token of any data-parallel rank."""
    narrower: int
    """The lesser of its inputs and outputs."""
    weight_bytes: float
    activation_bytes: float
    """Bytes read and written for one token."""
    compute: str
    dequantized: bool
    experts: int = 0
    active: int = 0


@dataclass(frozen=True, slots=True)
class Attention:
    """Equal layers' attention on one rank, all layers of a stage together."""

    prompt_flops: float
    """Operations for one token of a prompt and one token of its context."""
    decode_flops: float
    """The same for a generated token."""
    cache_bytes: float
    """Bytes read for one generated token and one token of its context."""
    window: int | None
    index_bytes: float
    """Bytes read for one token of the context beyond every window."""
    state_bytes: float
    """Bytes read and written for one token whatever the context."""

    def kept(self, context: float) -> float:
        """Bytes of the cache that a request of ``context`` tokens has to be read."""
        seen = context if self.window is None else min(context, self.window)
        return seen * self.cache_bytes + context * self.index_bytes


@dataclass(frozen=True, slots=True)
class Stage:
    """A pipeline stage on one of its tensor-parallel ranks."""

    multiplications: tuple[Multiplication, ...]
    attention: tuple[Attention, ...]
    head: Multiplication | None
    """The output head, on the last stage."""
    layers: int
    expert_layers: int

    @property
    def weight_bytes(self) -> float:
        """Bytes of its matrices, without the embedding."""
        head = self.head.weight_bytes if self.head else 0.0
        return sum(one.weight_bytes for one in self.multiplications) + head


@dataclass(frozen=True, slots=True)
class Work:
    """What a model asks of the ranks of one server; ``work_of`` makes it."""

    stages: tuple[tuple[Stage, int], ...]
    """The different pipeline stages and how often each stands in the pipeline; the last stage
    stands last."""
    hidden_size: int
    vocabulary_size: int
    split: Parallelism

    @property
    def lockstep(self) -> bool:
        """Whether data-parallel ranks take every step together: where their experts are shared.

        Source: ``DPEngineCoreProc.run_busy_loop`` of vllm 0.33.0 ``v1/engine/core.py``: a rank
        without work runs a dummy batch while another has some.
        """
        return self.split.data > 1 and any(stage.expert_layers for stage, _ in self.stages)

    def cache_bytes(self, context: float) -> float:
        """Bytes that the KV cache of a request of ``context`` tokens takes on one rank."""
        total = 0.0
        for stage, count in self.stages:
            for kind in stage.attention:
                total += (kind.kept(context) + kind.state_bytes / 2) * count
        return total / self.split.pipeline

    def napkin_bytes(self, context: float) -> float:
        """Bytes that are read one after another to generate a token of a request alone."""
        total = 0.0
        for stage, count in self.stages:
            if stage.head is not None:
                total += stage.head.weight_bytes * count
            for one in stage.multiplications:
                share = one.active / one.experts if one.experts else 1.0
                total += one.weight_bytes * share * count
            for kind in stage.attention:
                total += (kind.kept(context) + kind.state_bytes) * count
        return total


def experts_touched(experts: int, active: int, tokens: float) -> float:
    """Expected number of distinct experts that ``tokens`` tokens visit.

    E x (1 - (1 - k/E)^tokens) for a router that spreads tokens evenly.
    """
    return experts * (1.0 - math.pow(1.0 - active / experts, tokens))


@lru_cache(maxsize=512)
def work_of(
    architecture: Architecture,
    split: Parallelism | None = None,
    *,
    tensor: int = 1,
    pipeline: int = 1,
    element_bytes: float = 2,
    kv_element_bytes: float = 2,
) -> Work:
    """Operations and bytes of every part of the model on the fullest rank of each stage.

    A multiplication of M tokens with an N x K matrix takes 2 M N K operations, reads N K elements
    of weights and reads or writes M K + M N activations. Layers are dealt out as vLLM deals them
    (``stages.stage_ranges``). ``split`` is how the server is divided; without it ``tensor`` and
    ``pipeline`` are.
    """
    split = split or Parallelism(tensor, pipeline)
    pattern = architecture.pattern
    ranges = stage_ranges(architecture.layers, split.pipeline)
    made: dict[tuple[tuple[tuple[int, int], ...], bool], Stage] = {}
    numbers: Counter[Stage] = Counter()
    for place, layers in enumerate(ranges):
        counts = Counter(pattern[layers.start : layers.stop])
        last = place == len(ranges) - 1
        key = (tuple(sorted(counts.items())), last)
        if key not in made:
            made[key] = _stage(
                architecture, split, key[0], element_bytes, kv_element_bytes, last=last
            )
        numbers[made[key]] += 1
    return Work(
        stages=tuple(numbers.items()),
        hidden_size=architecture.hidden_size,
        vocabulary_size=padded_vocabulary(architecture.vocabulary_size),
        split=split,
    )


def _stage(
    architecture: Architecture,
    split: Parallelism,
    counts: tuple[tuple[int, int], ...],
    element_bytes: float,
    kv_element_bytes: float,
    *,
    last: bool,
) -> Stage:
    multiplications: list[Multiplication] = []
    attention: list[Attention] = []
    expert_layers = 0
    for number, count in counts:
        layer = architecture.kinds[number]
        place = _middle(architecture.pattern, number)
        multiplications += [
            _multiplication(architecture, matrix, split, count, element_bytes, place)
            for matrix in layer.matrices
            if matrix.kind != "embedding"
        ]
        attention.append(_attention(layer, count, split.tensor, kv_element_bytes))
        expert_layers += count * any(matrix.experts for matrix in layer.matrices)
    head = architecture.head or architecture.embedding
    return Stage(
        multiplications=tuple(multiplications),
        attention=tuple(attention),
        head=_multiplication(architecture, head, split, 1, element_bytes, None) if last else None,
        layers=sum(count for _, count in counts),
        expert_layers=expert_layers,
    )


def _middle(pattern: tuple[int, ...], number: int) -> int:
    """A layer of this kind that is neither the first nor the last of its kind, if there is one:
    those are what quantisations spare."""
    place, count = pattern.index(number), pattern.count(number)
    if count < 3:
        return place
    for _ in range(count // 2):
        place = pattern.index(number, place + 1)
    return place


def _multiplication(
    architecture: Architecture,
    matrix: Matrix,
    split: Parallelism,
    count: int,
    element_bytes: float,
    layer: int | None,
) -> Multiplication:
    shard = matrix.on_rank(split.tensor, split.expert_ranks, whole_experts=split.expert)
    scheme = None
    if matrix.kind == "linear":
        scheme = architecture.quantization.scheme(matrix.name, layer, expert=bool(matrix.experts))
    elements = shard.inputs * shard.outputs
    one = elements * element_bytes if scheme is None else scheme.bytes(shard.inputs, shard.outputs)
    times = count * shard.copies
    visited = times * matrix.active / matrix.experts if matrix.experts else times
    compute = "16bit" if scheme is None else scheme.compute
    return Multiplication(
        flops=2.0 * elements * visited,
        narrower=min(shard.inputs, shard.outputs),
        weight_bytes=float(one * times),
        activation_bytes=float(ACTIVATION_BYTES * (shard.inputs + shard.outputs) * visited),
        compute=compute,
        dequantized=scheme is not None and compute == "16bit",
        experts=matrix.experts,
        active=matrix.active,
    )


def _attention(layer: Layer, count: int, tensor: int, kv_bytes: float) -> Attention:
    """The attention of ``count`` equal layers.

    4 x heads x dimension operations for a token and a token of its context (scores and their
    product with the values); multi-head latent attention generates in the latent space, where a
    head's dimension is the rank's.
    """
    heads = max(1, layer.query_heads // tensor) if layer.query_heads else 0
    flops = 2.0 * heads * (layer.query_dim + layer.value_dim) * count
    decode_flops, cache, window, index, state = flops, 0.0, None, 0.0, 0.0
    kept = layer.cache
    if isinstance(kept, AttentionCache):
        cache = max(1, kept.heads // tensor) * (kept.key_dim + kept.value_dim) * kv_bytes
        window = kept.window
    elif isinstance(kept, LatentCache):
        decode_flops = 2.0 * heads * (2 * kept.rank + kept.rope_dim) * count
        cache = (kept.rank + kept.rope_dim) * kv_bytes
        if kept.indexer_dim:
            index, window = float(kept.indexer_dim), SPARSE_TOKENS
    for one in layer.kept:
        if isinstance(one, StateCache):
            state = 2.0 * one.state * one.state_bytes / tensor
    return Attention(
        prompt_flops=flops,
        decode_flops=decode_flops,
        cache_bytes=cache * count,
        window=window,
        index_bytes=index * count,
        state_bytes=state * count,
    )
