"""One GPU product and one division: does the model fit, and with which limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vllm_operator.errors import IllegalPin, Infeasible, PlanningError
from vllm_operator.models.shapes import Draft
from vllm_operator.sizing.asked.adapters import adapter_bytes
from vllm_operator.sizing.asked.gpu_candidates import GPUCandidate
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.memory.accounting import Footprint, budget_of
from vllm_operator.sizing.memory.kvcache import CacheLayout
from vllm_operator.sizing.memory.online_quantization import loading_bytes
from vllm_operator.sizing.memory.weights import bytes_per_rank, draft_bytes
from vllm_operator.sizing.split.divisions import Division
from vllm_operator.sizing.split.parallelism import Parallelism

from .batch_limits import BatchLimits, first_limits
from .fit import Fit, Fits
from .knobs import Knob
from .suitability import element_bytes, unsuited_because
from .utilization import gib

LARGEST_UTILIZATION: Final = 0.98
"""What is ever called safe: the rest of a GPU is the driver's and other programs'."""
FOLLOWING_ROUNDS: Final = 4
"""Rounds in which limits and the KV cache that they leave come to terms."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout that fits."""

    gpu: GPUCandidate
    division: Division
    dtype: str | None
    """Why the GPU forces ``--dtype float16``, where it does."""
    element_bytes: int
    kv_element_bits: float
    cache: CacheLayout
    utilization: Knob[float]
    safe_utilization: float
    """The largest that leaves room for what the profiling run does not count."""
    max_model_len: Knob[int]
    max_num_seqs: Knob[int]
    max_num_batched_tokens: Knob[int]
    max_num_active_seqs: Knob[int] | None
    """None where all sequences are admitted at once."""
    block_size: int
    footprint: Footprint
    whole_context: bool
    """Whether requests may be as long as the model (or the pin) allows."""
    held: int
    """Expected requests that the KV cache of one engine surely holds at once."""
    small_cache: bool = False
    """Whether the profile made the KV cache fp8."""
    adapters: int = 0
    """Bytes of the slots for LoRA adapters on a rank; part of the weights."""
    hastened: bool = False
    """Whether it has more GPUs than it needs, to answer faster."""
    draft: Draft | None = None
    """What is loaded to speculate; part of the weights."""

    @property
    def admitted(self) -> int:
        """Requests that run at once on one engine."""
        active = self.max_num_active_seqs
        return self.max_num_seqs.value if active is None else active.value

    @property
    def parallelism(self) -> Parallelism:
        """Ranks of the server."""
        return self.division.parallelism


@dataclass(frozen=True, slots=True)
class Rejection:
    """A layout that does not fit, or that vLLM would refuse."""

    gpu: GPUCandidate
    division: Division
    problem: PlanningError
    longest: int = 0
    """Longest request in tokens that would fit."""
    held: int = 0
    """Expected requests at once that would fit, where too few do."""
    sequences: int = 0
    """Sequences whose recurrent states have a block, where more are pinned."""
    illegal: bool = False
    """Whether vLLM would refuse it, whatever the memory."""


def find_layout(asked: Asked, gpu: GPUCandidate, division: Division) -> Layout | Rejection:
    """The layout with the most context in a division, or why there is none."""
    unsuited = unsuited_because(asked, gpu)
    if unsuited is not None:
        return Rejection(gpu, division, unsuited)
    return find_suited_layout(asked, gpu, division)


def find_suited_layout(asked: Asked, gpu: GPUCandidate, division: Division) -> Layout | Rejection:
    """``find_layout`` where ``unsuited_because`` had nothing to say of the product."""
    problem = _too_heavy(asked, gpu, division)
    if problem is not None:
        return Rejection(gpu, division, problem)
    return _Search(asked, gpu, division).run()


def _too_heavy(asked: Asked, gpu: GPUCandidate, division: Division) -> PlanningError | None:
    """Weights that alone are more than the GPU: nothing else needs to be looked at."""
    size, _ = element_bytes(asked, gpu)
    weights = bytes_per_rank(asked.architecture, division.parallelism, size)
    weights += asked.unexplained_bytes
    adapters = asked.features.adapters
    if adapters is not None:
        split = division.parallelism
        weights += adapter_bytes(adapters, asked.architecture, split, size, asked.version)
    total = gpu.offer.memory_bytes
    if weights >= total:
        text = f"{gib(weights)} of weights a GPU do not fit into {gib(total)}"
        return Infeasible("spec.gpu", text)
    method = asked.engine.quantization
    if method is None or asked.architecture.quantization is asked.checkpoint.quantization:
        return None
    loading = loading_bytes(asked.checkpoint, method, asked.version, division.parallelism, size)
    if asked.architecture.speculator is not None:
        loading += draft_bytes(asked.architecture.speculator, division.parallelism, size)
    if loading < total:
        return None
    return Infeasible(
        "spec.engine.quantization",
        f"{gib(weights)} of weights a GPU would fit into {gib(total)}, but vLLM {asked.version} "
        f"holds {gib(loading)} while it quantises them with {method}; take a checkpoint that is "
        "quantised already",
    )


class _Search:
    """Limits give way until the layout holds what is asked for, or nothing more can give way."""

    def __init__(self, asked: Asked, gpu: GPUCandidate, division: Division) -> None:
        self.asked, self.gpu, self.division = asked, gpu, division
        self.element_bytes, self.dtype = element_bytes(asked, gpu)
        self.limits = first_limits(asked, gpu, self.element_bytes, division.parallelism)
        self.fits = Fits(asked, gpu, division, self.element_bytes)
        self.room = True
        """Whether the utilization leaves room for what the profiling run does not count."""

    def run(self) -> Layout | Rejection:
        refused = self.limits.refused() or self.fits.refused(self.limits) or self._block_in_step()
        if refused is not None:
            return self._rejection(refused)
        while True:
            fit = self._fit()
            fraction = fit.fraction
            if fraction.value is None:
                if self._give_way(fit):
                    continue
                problem = Infeasible("spec.engine.gpuMemoryUtilization", fraction.problem)
                return self._rejection(problem)
            length = self.limits.length.value
            if fit.margin(length) >= 0 and self._holds_load(fit):
                if self._has_states(fit, self.limits):
                    return self._layout(fit, length)
                if self._bound_by_states(fit):
                    continue
            # Lower limits free no memory for weights that are too large by themselves.
            budget = budget_of(fraction.total, fraction.value)
            hopeless = fit.footprint.weights.high >= budget
            if (fraction.lowered_for_prompts or not hopeless) and self._give_way(fit):
                continue
            return self._last(fit)

    def _block_in_step(self) -> IllegalPin | None:
        """Let a step hold a block where vLLM wants that; why it does not where it is pinned."""
        if not self.fits.wants_block_in_step:
            return None
        block, tokens = self._fit().cache.block_size, self.limits.tokens
        if tokens.pinned and tokens.value < block:
            return IllegalPin(
                "spec.engine.maxNumBatchedTokens",
                f"is {tokens.value}, and vLLM {self.asked.version} wants a step to hold a block of "
                f"the recurrent states that prefixes are cached in, {block} tokens; set it to at "
                f"least {block}, or spec.engine.prefixCaching: false",
            )
        self.limits = self.limits.with_block(block)
        return None

    def _fit(self, limits: BatchLimits | None = None) -> Fit:
        return self.fits.at(limits or self.limits, room=self.room)

    def _holds_load(self, fit: Fit) -> bool:
        at_once = self.limits.at_once
        return not at_once or fit.holds(self.asked.load.tokens, at_once)

    def _has_states(self, fit: Fit, limits: BatchLimits) -> bool:
        """Whether each sequence has a block for its recurrent states, as full graphs want it."""
        return limits.seqs.value <= fit.blocks or not self.fits.wants_states

    def _bound_by_states(self, fit: Fit) -> bool:
        """Take no more sequences than there are blocks for; False where they are pinned."""
        if self.limits.seqs.pinned or not fit.blocks:
            return False
        self.limits = self.limits.with_states(fit.blocks)
        return True

    def _give_way(self, fit: Fit) -> bool:
        """Make room with the cheapest means that is left; False where there is none."""
        crowded = fit.fraction.lowered_for_prompts and self.room
        if crowded and not self.limits.chunked:
            # Nor shorter requests: without chunks, a step is as long as the longest of them.
            self.room = False
            return True
        lower = self.limits.shorter(fit.cache.block_size) or self._lower(fit)
        if lower is not None:
            self.limits = lower
            return True
        if crowded:
            # More GPUs, or no server, for requests that hardly anybody sends: no.
            self.room = False
        return crowded

    def _lower(self, fit: Fit) -> BatchLimits | None:
        """Half the limit that makes more room by it; None where neither makes any."""
        fewer_tokens = self.limits.fewer_tokens()
        if fit.fraction.lowered_for_prompts and fewer_tokens is not None:
            return fewer_tokens
        length = self.limits.length.value
        best, taken = fit.margin(length), None
        for lower in (self.limits.fewer_seqs(), fewer_tokens):
            margin = best if lower is None else self._fit(lower).margin(length)
            if margin > best:
                best, taken = margin, lower
        return taken

    def _last(self, fit: Fit) -> Layout | Rejection:
        limits, load = self.limits, self.asked.load
        length, pinned = limits.length.value, limits.length.pinned
        longest = fit.cache.longest_request(max(0, fit.low), length)
        if not limits.chunked:
            longest = min(longest, limits.tokens.value)
        if longest < (length if pinned else limits.useful_length):
            expected = not pinned and load.stated
            length = load.tokens if expected else length
            needed = gib(fit.cache.bytes_for(length))
            of = f"{load.request} (spec.workload)" if expected else f"{length} tokens"
            text = f"one request of {of} needs {needed} of KV cache a GPU"
            field = "spec.engine.maxModelLen" if pinned and longest else "spec.gpu"
            problem = Infeasible(field, f"{text}, and {fit.what_is_left()}")
            return self._rejection(problem, longest)
        if not self._holds_load(fit):
            held = fit.held(load.tokens)
            needed = gib(fit.bytes_of(load.tokens, limits.at_once))
            text = f"{limits.at_once} requests of {load.request} need {needed} of KV cache a GPU"
            left = f"{fit.what_is_left()}: {held} of them"
            problem = Infeasible("spec.workload.concurrency", f"{text}, and {left}")
            return self._rejection(problem, longest, held)
        if not self._has_states(fit, limits):
            if self._bound_by_states(fit):
                return self.run()
            text = f"{limits.seqs.value} sequences want a block for their recurrent states each"
            left = f"the KV cache surely has {fit.blocks}: {fit.what_is_left()}"
            problem = Infeasible("spec.engine.maxNumSeqs", f"{text}, and {left}")
            return self._rejection(problem, longest, sequences=fit.blocks)
        if limits.parts_prompts_above(longest):
            # Shorter requests are not prefilled in chunks: a step holds the longest of them.
            self.limits = limits.with_length(longest)
            return self.run()
        return self._layout(fit, longest)

    def _rejection(
        self, problem: PlanningError, longest: int = 0, held: int = 0, sequences: int = 0
    ) -> Rejection:
        return Rejection(self.gpu, self.division, problem, longest, held, sequences)

    def _layout(self, fit: Fit, length: int) -> Layout:
        if self.asked.load.stated or self.asked.features.profile.follows:
            fit = self._following(fit, length)
        limits = self.limits
        return Layout(
            gpu=self.gpu,
            division=self.division,
            dtype=self.dtype,
            element_bytes=self.element_bytes,
            kv_element_bits=self.fits.kv_element_bits,
            cache=fit.cache,
            utilization=fit.fraction.knob,
            safe_utilization=min(fit.fraction.safe, LARGEST_UTILIZATION),
            max_model_len=limits.longest(length),
            max_num_seqs=limits.seqs,
            max_num_batched_tokens=limits.tokens,
            max_num_active_seqs=limits.active,
            block_size=fit.cache.block_size,
            footprint=fit.footprint,
            whole_context=length == limits.length.start.value,
            held=fit.held(self.asked.load.tokens),
            small_cache=self.fits.small_cache,
            adapters=self.fits.adapters,
            draft=self.asked.architecture.speculator,
        )

    def _following(self, fit: Fit, length: int) -> Fit:
        """The fit at limits that follow from the expected load.

        They leave more for the KV cache, except where graphs lie outside the budget and are
        captured in what the peak has left behind: there the first limits may have to stay.
        """
        tokens = self.asked.load.tokens
        first = limits = self.limits
        held = fit.held(tokens)
        for _ in range(FOLLOWING_ROUNDS):
            lower = limits.following(held, first)
            if lower is None:
                break
            limits, followed = lower, self._fit(lower)
            held = followed.held(tokens)
            possible = followed.fraction.value is not None and followed.margin(length) >= 0
            possible = possible and self._has_states(followed, limits)
            if not possible or held < limits.at_once:
                break
            if held >= limits.seqs.value or limits.settled_seqs:
                self.limits = limits
                return followed
        return fit
