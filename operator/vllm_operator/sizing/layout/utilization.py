"""The fraction of a GPU's memory that an engine may take, with room for what nobody profiles.

vLLM's profiling run never computes the log-probabilities of prompts: a request with
``prompt_logprobs`` makes logits of a whole chunk of its prompt, in the model's data type and in
float32 (``engine/prompt_logprobs.csv``). They find room in what the profiled peak has left behind
and outside the budget, or the engine ends with an out-of-memory error under load. Nor does it
verify more than one drafted token a sequence (``engine/rejection.csv``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.engine import defaults
from vllm_operator.models.matrices import padded_vocabulary
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.asked.speculation import rejection_bytes
from vllm_operator.sizing.memory.accounting import Footprint, budget_of
from vllm_operator.sizing.memory.peak import runner_of

from .batch_limits import BatchLimits
from .knobs import Knob, repaired, tuned

SMALLEST: Final = 0.05
"""Below this the GPU holds no engine at all."""


def gib(size: float) -> str:
    """Bytes for a message, in GiB."""
    return f"{size / GIBIBYTE:.2f} GiB"


@dataclass(frozen=True, slots=True)
class Unprofiled:
    """Bytes on each rank that vLLM's profiling run does not count, and what takes them."""

    size: int
    what: str

    def __str__(self) -> str:
        return f"{self.what} take up to {gib(self.size)}"


@dataclass(frozen=True, slots=True)
class Utilization:
    """A fraction of ``total`` bytes, and what it was taken from."""

    value: float | None
    """None where the engine could not start."""
    total: int
    wanted: Knob[float]
    startable: int
    """The largest budget that the engine surely starts with and can keep."""
    roomy: int
    """The largest that leaves room for what the profiling run does not count."""
    room: bool
    """Whether that room is left."""
    unprofiled: Unprofiled
    """What takes the most of what the profiling run does not count."""
    beside: int = 0
    """What may be taken outside the budget: context, communicators, and graphs that it does not
    pay for."""

    @property
    def _crowded(self) -> str:
        """What to say of a pin that leaves less outside the budget than may be taken there."""
        outside = self.total - budget_of(self.total, self.wanted.value)
        if not self.wanted.pinned or outside >= self.beside:
            return ""
        return (
            f"; it leaves {gib(outside)} outside the budget, where up to {gib(self.beside)} are "
            "taken: the start may end when the sampler is warmed up"
        )

    @property
    def lowered_for_prompts(self) -> bool:
        """Whether fewer tokens a step would raise it."""
        lowered = not self.wanted.pinned and self.value != self.wanted.value
        return lowered and self.room and self.roomy < self.startable

    @property
    def safe(self) -> float:
        """The largest that leaves room for what the profiling run does not count, in hundredths;
        0 where none does."""
        return max(0.0, _rounded_down(self.roomy, self.total))

    @property
    def _largest(self) -> int:
        return max(0, self.roomy if self.room else self.startable)

    @property
    def knob(self) -> Knob[float]:
        """The value with its reason."""
        assert self.value is not None
        wanted, uncounted = self.wanted, "which vLLM's profiling run does not count"
        if self.lowered_for_prompts:
            return wanted.at_most(self.value, f"{self.unprofiled}, {uncounted}")
        if self.value != wanted.value:
            free = f"{gib(self._largest)} of {gib(self.total)}"
            why = f"only {free} are sure to be free when the engine starts"
            return wanted.at_most(self.value, why)
        if crowded := self._crowded:
            wanted = wanted.noted(crowded)
        if budget_of(self.total, self.value) <= self.roomy:
            return wanted
        if not wanted.pinned:
            return wanted.noted(f"; no room is left: {self.unprofiled}")
        safe = f"above {self.safe:g}"
        ends = f"a request may end the engine: {self.unprofiled}, {uncounted}"
        return wanted.noted(f"; {safe} {ends}")

    @property
    def problem(self) -> str:
        """Why there is no value."""
        if not self.wanted.pinned:
            return f"{gib(self.total)} hold no engine: {gib(self._largest)} are free"
        wanted, safe = self.wanted.value, max(0.0, _rounded_down(self.startable, self.total))
        return (
            f"{wanted:g} of {gib(self.total)} is {gib(self.total * wanted)}, and "
            f"only {gib(max(0, self.startable))} are sure to be free when the engine starts; "
            f"set it to at most {safe:g}"
        )


def unprofiled_of(asked: Asked, seqs: int, tokens: int, *, rocm: bool = False) -> Unprofiled:
    """The larger of the logits that a step of ``tokens`` with ``prompt_logprobs`` makes on each
    rank, and of what verifying the drafts of ``seqs`` sequences takes; one comes after the other.
    """
    if asked.architecture.pooling:
        return Unprofiled(0, "pooled prompts")
    architecture, version = asked.architecture, asked.version
    runner = runner_of(architecture, version, rocm=rocm)
    width = padded_vocabulary(architecture.vocabulary_size)
    size = defaults.prompt_logprobs_bytes(version, runner, tokens, width)
    prompts = Unprofiled(size, f"prompt_logprobs of {tokens} tokens a step")
    speculation = asked.features.speculation
    if speculation is None:
        return prompts
    size = rejection_bytes(speculation, architecture, version, runner, seqs, tokens)
    drafted = f"{speculation.tokens} drafted tokens of each of {seqs} sequences"
    return max(prompts, Unprofiled(size, drafted), key=lambda one: one.size)


def wanted_utilization(asked: Asked) -> Knob[float]:
    """The pin, else what a trial has proven or vLLM's default, no larger than what was learned."""
    pin, default = asked.engine.gpu_memory_utilization, f"default of vLLM {asked.version}"
    start = defaults.gpu_memory_utilization(asked.version)
    knob = Knob.starting(pin, "gpuMemoryUtilization", start, default)
    knob = tuned(knob, asked.tuned.gpu_memory_utilization, asked.tuned.reason)
    return repaired(knob, asked.repairs, "lowerUtilization")


def utilization(
    asked: Asked,
    footprint: Footprint,
    total: int,
    limits: BatchLimits,
    wanted: Knob[float],
    *,
    room: bool,
) -> Utilization:
    """What is wanted, lowered until the engine surely starts where it is not pinned.

    With ``room``, lowered further until a step can have the log-probabilities of its prompt tokens
    computed, and its drafts verified.
    """
    keepable = footprint.largest_budget(total)
    _, free = footprint.free_at_start(total)
    seqs, tokens = limits.seqs.value, limits.tokens.value
    unprofiled = unprofiled_of(asked, seqs, tokens, rocm=limits.setup.rocm)
    spare = free - footprint.cuda_graphs_outside.high + footprint.activation_peak.expected
    roomy = min(keepable, spare - unprofiled.size)
    startable = footprint.startable_budget(total) if wanted.pinned else keepable
    largest = roomy if room and not wanted.pinned else startable
    value: float | None = wanted.value
    if budget_of(total, wanted.value) > largest:
        safe = _rounded_down(largest, total)
        value = safe if safe >= SMALLEST and not wanted.pinned else None
    beside = 0
    if footprint.cuda_graphs_outside.high:
        beside = total - free + footprint.cuda_graphs_outside.high + footprint.unexplained.high
    return Utilization(value, total, wanted, startable, roomy, room, unprofiled, beside)


def _rounded_down(budget: int, total: int) -> float:
    return math.floor(budget / total * 100) / 100
