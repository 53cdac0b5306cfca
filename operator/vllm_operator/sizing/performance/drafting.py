"""Speculative decoding: what drafting costs a step, and how many tokens a step then makes.

A step verifies the ``tokens`` drafts of each generating request beside the token that it would have
made anyway, of which 1 + a remain on average, a being the drafts that are accepted. What drafts is
run once over all that was verified and then once for each further draft (vllm 0.33.0
``v1/spec_decode/llm_base_proposer.py``), after the step and before the next; drafts from the text
itself (ngram, suffix) take no time of the GPU. No published run is fitted to: this is arithmetic.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.models.matrices import Matrix, padded_vocabulary
from vllm_operator.models.shapes import Architecture, Draft, Layer
from vllm_operator.sizing.split.parallelism import Parallelism

from .attention import attention_of
from .coefficients import Coefficients
from .kernels import kernels_of, launches_of, reductions_of
from .step import Times, times_of
from .work import Stage, Work, multiplication

HEAD: Final = "lm_head"
"""Name that an output head ends with."""


@dataclass(frozen=True, slots=True)
class Drafting:
    """How tokens are drafted on a given GPU."""

    tokens: int
    """Drafts of a generating request in each step."""
    accepted: float
    """How many of them are accepted, on average."""
    times: Times | None
    """Of one pass of what drafts; None where nothing is loaded."""
    work: Work | None = None
    """The same, whatever the GPU."""

    @property
    def width(self) -> float:
        """Tokens that a generating request has in a step."""
        return 1.0 + self.tokens

    @property
    def made(self) -> float:
        """Tokens that a step makes of a generating request."""
        return 1.0 + self.accepted

    def seconds(
        self, decodes: float, context: float, prompt: float, prompt_context: float
    ) -> float:
        """Seconds of drafting after such a step; as ``Times.step``.

        What drafts sees the prompts as well: it has a cache of its own to fill.
        """
        if self.times is None:
            return 0.0
        first = self.times.step(decodes, context, prompt, prompt_context, width=self.width)
        if not decodes:
            return first
        return first + (self.tokens - 1) * self.times.step(decodes, context, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Drafted:
    """How tokens are drafted, whatever the GPU."""

    tokens: int
    accepted: float
    work: Work | None
    """Of one pass of what drafts; None where nothing is loaded."""

    def on(self, gpu: GPUPerformance, found: Coefficients, *, eager: bool) -> Drafting:
        """The same on a GPU. The host's part is in the step that is drafted for."""
        if self.work is None:
            return Drafting(self.tokens, self.accepted, None)
        times = times_of(self.work, gpu, found, eager=eager)
        times = replace(times, host_seconds=0.0, host_step_seconds=0.0, answer_seconds=0.0)
        return Drafting(self.tokens, self.accepted, times, self.work)


@lru_cache(maxsize=256)
def draft_work(
    architecture: Architecture,
    split: Parallelism,
    *,
    one_by_one: bool,
    element_bytes: float = 2,
    kv_element_bytes: float = 2,
) -> Work | None:
    """What one pass of the draft asks of a rank; None where nothing is loaded to draft.

    ``one_by_one``: whether each pass goes through one of its layers, as multi-token prediction
    does. A draft is divided over the tensor-parallel ranks like its model.
    """
    draft = architecture.speculator
    if draft is None:
        return None
    layers, beside = draft.layers, draft.matrices
    if one_by_one:
        layers, beside = layers[:1], beside[: max(1, len(beside) // len(layers))]
    head = _head(draft, architecture)
    others = [one for one in beside if one is not head and one.kind != "embedding"]
    counts = Counter(layers)
    numbers: dict[Layer, int] = {}
    for number, layer in enumerate(layers):
        numbers.setdefault(layer, draft.first_layer + number)
    parts = [
        multiplication(draft.quantization, matrix, split, count, element_bytes, numbers[layer])
        for layer, count in counts.items()
        for matrix in layer.matrices
        if matrix.kind != "embedding"
    ]
    parts += [
        multiplication(draft.quantization, matrix, split, 1, element_bytes, None)
        for matrix in others
    ]
    stage = Stage(
        multiplications=tuple(parts),
        attention=tuple(
            one
            for layer, count in counts.items()
            for one in attention_of(layer, count, split.tensor, kv_element_bytes, 0)
        ),
        head=multiplication(draft.quantization, head, split, 1, element_bytes, None),
        layers=len(layers),
        expert_layers=sum(any(one.experts for one in layer.matrices) for layer in layers),
        kernels=sum(map(kernels_of, layers)),
        launches=sum(map(launches_of, layers)),
        reductions=sum(map(reductions_of, layers)),
    )
    return Work(((stage, 1),), head.inputs, padded_vocabulary(head.outputs), split)


def _head(draft: Draft, architecture: Architecture) -> Matrix:
    """The matrix that makes its logits: its own head or tied embedding, or the model's."""
    own = [one for one in draft.matrices if one.name.endswith(HEAD)]
    tied = [one for one in draft.matrices if one.kind == "embedding"]
    if own:
        return own[0]
    if draft.method == "draft_model" and tied:
        return tied[0]
    return architecture.head or architecture.embedding
