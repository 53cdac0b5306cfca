"""How long a step of vLLM takes: a roofline of every matrix on every pipeline stage.

A step's time on a stage is the sum over its matrices of the longer of arithmetic and memory
traffic, plus attention, communication and fixed work.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from vllm_operator.engine.graphs import LARGEST
from vllm_operator.hardware.performance import GPUPerformance

from .attention import Attention
from .coefficients import Coefficients
from .links import Links
from .work import ACTIVATION_BYTES, Multiplication, Stage, Work

HANDED_OVER: Final = 2
"""Tensors of the hidden size that a stage hands to the next: hidden states and residual
(``make_empty_intermediate_tensors_factory`` of vllm 0.33.0 ``model_executor/models``)."""


@dataclass(frozen=True, slots=True)
class ExpertTimes:
    """Grouped multiplications of routed experts on one rank."""

    arithmetic: float
    """Seconds of arithmetic for a token of any data-parallel rank."""
    weights: float
    """Seconds of reading all experts."""
    activations: float
    """Seconds of reading and writing activations for a token."""
    passed_by: float
    """Share of experts that a token does not visit."""
    padding: float
    """The tokens' worth of arithmetic that padding adds when all experts are visited."""
    per_rank: float
    """Experts on a rank, where they are whole; 0 where each rank has a part of every expert."""
    spread: float
    """2 ln R for whole experts on R ranks: see ``fullest``."""
    skew: float = 1.0
    """Tokens of the fullest rank over those that even routing would give it."""

    def seconds(self, tokens: float) -> float:
        """Seconds for ``tokens`` tokens of all data-parallel ranks, on the fullest rank."""
        visited = 1.0 - math.pow(self.passed_by, tokens)
        if self.spread:
            tokens, visited = self.fullest(tokens, visited)
        return max(
            self.arithmetic * (tokens + self.padding * visited),
            self.weights * visited + self.activations * tokens,
        )

    def fullest(self, tokens: float, visited: float) -> tuple[float, float]:
        """The tokens' worth of visits and the share of visited experts of the fullest rank.

        Of R bins into which balls fall evenly, m on average, the fullest holds about
        m + sqrt(2 m ln R) (Raab and Steger, "Balls into Bins", 1998); for visited experts m is the
        variance of their number. A router that prefers some experts does worse by ``skew``.
        """
        mean = max(1e-9, tokens * (1.0 - self.passed_by) * self.per_rank)
        ranks = math.exp(self.spread / 2)
        more = min(ranks, self.skew * (1.0 + math.sqrt(self.spread / mean)))
        wide = math.sqrt(self.spread * visited * (1.0 - visited) / self.per_rank)
        return tokens * more, min(1.0, visited * more, visited + wide)


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds per unit of one pipeline stage on a given GPU."""

    linears: tuple[tuple[float, float, float], ...]
    """Seconds of arithmetic a token, seconds of weights, seconds of activations a token."""
    experts: tuple[ExpertTimes, ...]
    attention: tuple[tuple[float, float, float, int | None, float], ...]
    """As ``Attention``, in seconds."""
    head: tuple[float, float, float] | None
    token_seconds: float
    """Of every token: elementwise operations and communication."""
    shared_seconds: float
    """Of every token of all data-parallel ranks: sending it to the experts and back."""
    fixed_seconds: float
    """Of every step: launches and latencies."""
    sample_seconds: float
    """Of every sampled token."""
    launch_seconds: float = 0.0
    """Of launching the kernels of a step that no CUDA graph holds: the GPU is no faster."""
    captured: int = 0
    """Tokens of the largest step that a CUDA graph holds."""

    def seconds(
        self,
        decodes: float,
        context: float,
        prompt: float,
        prompt_context: float,
        everyone: float,
        width: float = 1.0,
    ) -> float:
        """Seconds of a step on this stage; as ``Times.step``."""
        tokens = decodes * width + prompt
        gpu = self.fixed_seconds + tokens * self.token_seconds + everyone * self.shared_seconds
        for arithmetic, weights, activations in self.linears:
            gpu += max(arithmetic * tokens, weights + activations * tokens)
        for one in self.experts:
            gpu += one.seconds(everyone)
        for first, later, cache, window, state in self.attention:
            seen = context if window is None else min(context, window)
            prompt_seen = prompt_context if window is None else min(prompt_context, window)
            generated = state + seen * max(width * later, cache)
            gpu += prompt * prompt_seen * first + decodes * generated
        if tokens > self.captured:
            gpu = max(gpu, self.launch_seconds)
        if self.head is None:
            return gpu
        sampled = decodes * width + min(1.0, prompt)
        arithmetic, weights, activations = self.head
        gpu += max(arithmetic * sampled, weights + activations * sampled)
        return gpu + sampled * self.sample_seconds


@dataclass(frozen=True, slots=True)
class Times:
    """What the time of a step is made of."""

    stages: tuple[tuple[StageTimes, int], ...]
    """The different stages and how many there are of each."""
    host_seconds: float
    """Of every sequence, on the host."""
    asynchronous: bool
    """Whether the next step is scheduled while the GPU computes."""
    ranks: int
    """Data-parallel ranks that take every step together; 1 where each goes its own way."""
    host_step_seconds: float = 0.0
    """Of every step, on the host, where that is hidden."""
    answer_seconds: float = 0.0
    """Of every sequence, in the API server, which works beside the engine."""

    def step(
        self,
        decodes: float,
        context: float,
        prompt: float,
        prompt_context: float,
        *,
        in_flight: float = 1.0,
        prompting: float = 1.0,
        width: float = 1.0,
    ) -> float:
        """Seconds from a micro-batch's start until its tokens can go into the next.

        ``decodes`` generated tokens attend to ``context`` tokens each, ``prompt`` tokens of prompts
        to ``prompt_context`` each; ``prompting`` is how many of the ranks that step together have
        such prompts. With drafts to verify, each generating request has ``width`` tokens in the
        step, for which its cache is read once.

        With ``in_flight`` equal micro-batches in a pipeline the longer of two times: of one passing
        through all stages, and of the slowest stage serving each of them (the asymptotic bounds of
        a closed queueing network, Denning and Buzen, 1978). vLLM has as many micro-batches in
        flight as stages (0.33.0 ``config/vllm.py``, ``max_concurrent_batches``), and one more,
        which hides the host's work, where it schedules ahead; a request generates in every
        ``pipeline``-th of them (``v1/core/sched/async_scheduler.py``, ``decode_stagger``).
        """
        everyone = decodes * width * self.ranks + prompt * prompting
        through = slowest = 0.0
        for stage, count in self.stages:
            seconds = stage.seconds(decodes, context, prompt, prompt_context, everyone, width)
            through += seconds * count
            slowest = max(slowest, seconds)
        sequences = decodes + min(1.0, prompt)
        host = sequences * self.host_seconds + self.host_step_seconds
        if not self.asynchronous:
            through += host
        answers = sequences * self.answer_seconds
        return max(through, in_flight * max(slowest, host, answers))

    def chunk(self, prompt: float, prompt_context: float) -> float:
        """Seconds after which the next piece of a prompt can follow one of ``prompt`` tokens."""
        return max(
            stage.seconds(0.0, 0.0, prompt, prompt_context, prompt) for stage, _ in self.stages
        )


def times_of(
    work: Work,
    gpu: GPUPerformance,
    found: Coefficients,
    *,
    nodes: int = 1,
    eager: bool = False,
    ahead: bool = True,
    captured: int = LARGEST,
    padded: bool = False,
) -> Times:
    """The times of a step's parts on ``gpu``, for a server that is spread over ``nodes`` nodes.

    ``ahead``: whether the next step is scheduled while the GPU computes; ``captured``: tokens of
    the largest CUDA graph; ``padded``: whether sparse attention computes as many tokens as its
    index may choose where the context has fewer.
    """
    largest = 0 if eager else captured
    launch = found.eager_launch_seconds if eager else found.launch_seconds
    hidden = _host_seconds(work, found) if ahead else 0.0
    shown = 0.0 if ahead else _host_seconds(work, found)
    links = Links(work.split, gpu, found, nodes)
    number, stages = 0, []
    for stage, count in work.stages:
        # Equal stages may have borders of both kinds before them, and the first has none.
        borders = [links.between_nodes(number + one) for one in range(count) if number + one]
        handed = _handed_over(work, links, found, borders, count)
        times = _stage_times(work, stage, gpu, found, links, handed, padded=padded)
        times = replace(
            times,
            fixed_seconds=times.fixed_seconds + shown,
            launch_seconds=stage.launches * launch + shown,
            captured=largest,
        )
        stages.append((times, count))
        number += count
    return Times(
        stages=tuple(stages),
        host_seconds=found.sequence_seconds,
        host_step_seconds=hidden,
        answer_seconds=found.answer_seconds,
        asynchronous=ahead,
        ranks=work.split.data if work.lockstep else 1,
    )


def _host_seconds(work: Work, found: Coefficients) -> float:
    several = work.split.tensor * work.split.pipeline > 1
    return found.step_seconds + several * found.ranks_seconds


def _handed_over(
    work: Work, links: Links, found: Coefficients, borders: list[bool], stages: int
) -> tuple[float, float]:
    """Seconds a token and seconds a step of what comes from the stage before, the mean of
    ``stages`` equal stages."""
    size = HANDED_OVER * work.hidden_size * ACTIVATION_BYTES
    token = sum(links.hand_over_seconds(size, crossing=crossing) for crossing in borders)
    fixed = len(borders) * found.all_reduce_seconds + sum(borders) * found.network_seconds
    return token / stages, fixed / stages


def _stage_times(
    work: Work,
    stage: Stage,
    gpu: GPUPerformance,
    found: Coefficients,
    links: Links,
    handed: tuple[float, float],
    *,
    padded: bool,
) -> StageTimes:
    memory = gpu.memory_bandwidth * found.bandwidth
    linears = []
    experts = []
    timed = _timer(gpu, found, memory)
    for one in stage.multiplications:
        if one.experts:
            experts.append(_expert_times(work, one, timed(one), found))
        else:
            linears.append(timed(one))
    attention = []
    for kind in stage.attention:
        first, later, cache, window, state = _attention_times(kind, gpu, found)
        if padded and kind.chosen and window:
            linears.append((first * window, 0.0, 0.0))
            first = later = 0.0
        attention.append((first, later, cache, window, state))
    hidden = work.hidden_size * ACTIVATION_BYTES
    token = stage.layers * found.elementwise_passes * hidden / memory
    fixed = stage.kernels * found.kernel_seconds
    if work.split.tensor > 1:
        token += stage.reductions * links.all_reduce_bytes(hidden) / links.tensor_bandwidth
        fixed += stage.reductions * links.tensor_latency
    token, fixed = token + handed[0], fixed + handed[1]
    shared = 0.0
    if work.lockstep:
        shared = stage.expert_layers * links.dispatch_bytes(hidden) / links.expert_bandwidth
        fixed += (stage.expert_layers + 1) * links.expert_latency
    return StageTimes(
        linears=tuple(linears),
        experts=tuple(experts),
        attention=tuple(attention),
        head=timed(stage.head) if stage.head else None,
        token_seconds=token,
        shared_seconds=shared,
        fixed_seconds=fixed,
        sample_seconds=found.logit_passes * 4 * work.vocabulary_size / memory,
    )


def _attention_times(
    kind: Attention, gpu: GPUPerformance, found: Coefficients
) -> tuple[float, float, float, int | None, float]:
    speed = gpu.flops(kind.compute) * found.attention_compute
    cache = gpu.memory_bandwidth * found.cache_bandwidth
    return (
        kind.prompt_flops / speed,
        kind.decode_flops / speed,
        kind.cache_bytes / cache,
        kind.window,
        kind.state_bytes / cache,
    )


def _expert_times(
    work: Work, one: Multiplication, times: tuple[float, float, float], found: Coefficients
) -> ExpertTimes:
    share = one.active / one.experts
    whole = work.split.expert and work.split.expert_ranks > 1
    ranks = min(work.split.expert_ranks, one.experts) if whole else 1
    return ExpertTimes(
        *times,
        passed_by=1.0 - share,
        padding=found.expert_padding / share,
        per_rank=one.experts / ranks if whole else 0.0,
        spread=2.0 * math.log(ranks),
        skew=found.expert_skew,
    )


def _timer(
    gpu: GPUPerformance, found: Coefficients, memory: float
) -> Callable[[Multiplication], tuple[float, float, float]]:
    """Seconds of arithmetic a token, of weights, and of activations a token."""

    def times(one: Multiplication) -> tuple[float, float, float]:
        speed = gpu.flops(one.compute) * found.compute
        speed *= one.narrower / (one.narrower + found.narrow)
        if one.experts:
            speed *= found.expert_compute
        lacks = one.compute != "16bit" and gpu.flops(one.compute) <= gpu.flops_16bit
        if one.dequantized or lacks:
            speed *= found.dequantized_compute
        return one.flops / speed, one.weight_bytes / memory, one.activation_bytes / memory

    return times
