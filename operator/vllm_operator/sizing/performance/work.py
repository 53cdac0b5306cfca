"""What a model asks of the GPUs: operations and bytes of every part of every pipeline stage."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vllm_operator.models.matrices import Matrix, padded_vocabulary
from vllm_operator.models.quantization import Quantization
from vllm_operator.models.shapes import Architecture
from vllm_operator.sizing.split.parallelism import Parallelism
from vllm_operator.sizing.split.stages import stage_ranges

from .attention import Attention, attention_of
from .kernels import kernels_of, launches_of, reductions_of

ACTIVATION_BYTES: Final = 2
"""Bytes of an element between layers: bfloat16 or float16."""


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
class Stage:
    """A pipeline stage on one of its tensor-parallel ranks."""

    multiplications: tuple[Multiplication, ...]
    attention: tuple[Attention, ...]
    head: Multiplication | None
    """The output head, on the last stage."""
    layers: int
    expert_layers: int
    kernels: int
    """GPU kernels of a step, all-reduces and the output head left out: see ``kernels``."""
    launches: int
    """What launching them takes without a CUDA graph, in units of the cheapest."""
    reductions: int
    """All-reduces of a step, where the stage is divided over tensor-parallel ranks."""

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
    expert_layers = kernels = launches = reductions = 0
    for number, count in counts:
        layer = architecture.kinds[number]
        place = _middle(architecture.pattern, number)
        multiplications += [
            multiplication(architecture.quantization, matrix, split, count, element_bytes, place)
            for matrix in layer.matrices
            if matrix.kind != "embedding"
        ]
        attention += attention_of(
            layer, count, split.tensor, kv_element_bytes, architecture.indexed_tokens
        )
        kernels += count * kernels_of(layer)
        launches += count * launches_of(layer)
        reductions += count * reductions_of(layer)
        expert_layers += count * any(matrix.experts for matrix in layer.matrices)
    head = architecture.head or architecture.embedding
    return Stage(
        multiplications=tuple(multiplications),
        attention=tuple(attention),
        head=multiplication(architecture.quantization, head, split, 1, element_bytes, None)
        if last
        else None,
        layers=sum(count for _, count in counts),
        expert_layers=expert_layers,
        kernels=kernels,
        launches=launches,
        reductions=reductions,
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


def multiplication(
    quantization: Quantization,
    matrix: Matrix,
    split: Parallelism,
    count: int,
    element_bytes: float,
    layer: int | None,
) -> Multiplication:
    """``count`` equal matrices on one rank, stored as layer ``layer`` stores them."""
    shard = matrix.on_rank(split.tensor, split.expert_ranks, whole_experts=split.expert)
    scheme = None
    if matrix.kind == "linear":
        scheme = quantization.scheme(matrix.name, layer, expert=bool(matrix.experts))
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
