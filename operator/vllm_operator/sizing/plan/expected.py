"""The plan's expected performance: figures, how far they may be off, what bounds them, drafts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from vllm_operator.api.performance import (
    Cost,
    Drafts,
    Performance,
    PerformanceRanges,
    Range,
    SpeedCorrection,
    StepBound,
    StepBounds,
)
from vllm_operator.api.plan import MemoryLedger
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.layout.money import per_hour, per_million_tokens
from vllm_operator.sizing.layout.prefixes import prefixes_of, shared_blocks
from vllm_operator.sizing.layout.search import Layout
from vllm_operator.sizing.layout.speed import cached_of, measured_gpu, performance_of, served
from vllm_operator.sizing.memory.calibration import engine_digest
from vllm_operator.sizing.performance import coefficients
from vllm_operator.sizing.performance.batch import PerformanceEstimate
from vllm_operator.sizing.performance.bounds import Bound, bounds_of
from vllm_operator.sizing.performance.intervals import Figure, interval, kind_of, was_measured
from vllm_operator.sizing.performance.learned import Kind, Load, correction
from vllm_operator.sizing.performance.server import Server

ROUNDS: Final = 7
"""Bisections of a share: to a hundredth."""


@dataclass(frozen=True, slots=True)
class _Expected:
    """The load that the figures are of, and the server that it is put on."""

    asked: Asked
    layout: Layout
    gpu: GPUPerformance
    prompt: int
    output: int
    concurrency: int

    @property
    def cached(self) -> int:
        """Tokens of each prompt that lie in the prefix cache."""
        return cached_of(self.asked, self.layout, self.prompt)

    def with_drafts(self, acceptance: float | None) -> tuple[Server, PerformanceEstimate]:
        """The server and its figures, with that share of drafts accepted; without any for None."""
        found = served(self.asked, self.layout, self.gpu, acceptance)
        return found, found.steady(self.prompt, self.output, self.concurrency, self.cached)


def expected_performance(asked: Asked, layout: Layout, ledger: MemoryLedger) -> Performance | None:
    """One replica under the expected load, or as many such requests as it surely holds.

    None where nothing is known of the GPU. What is taken of pipelines, data-parallel ranks and the
    links between nodes stands in ``performance``.
    """
    gpu = performance_of(asked, layout)
    if gpu is None or asked.architecture.pooling:
        return None
    load, length, ranks = asked.load, layout.max_model_len.value, asked.pins.ranks
    output = min(load.output_tokens, max(1, length // 2)) if not load.stated else load.output_tokens
    prompt = max(1, min(load.prompt_tokens, length - output))
    workload = asked.spec.workload
    concurrency = workload.concurrency if workload else None
    if concurrency is None:
        concurrency = _held(asked, layout, ledger.kv_cache.low, prompt + output) * ranks
    expected = _Expected(asked, layout, gpu, prompt, output, concurrency)
    server, found = expected.with_drafts(load.draft_acceptance)
    drafts = _drafts(expected, found)
    measured = measured_gpu(asked, layout)
    by = _correction(asked, layout, Load(prompt, output, concurrency))
    found = found if by is None else _corrected(found, by)
    return Performance(
        prompt_tokens=prompt,
        cached_prompt_tokens=expected.cached if load.shared_tokens else None,
        output_tokens=output,
        concurrency=concurrency,
        time_to_first_token=_rounded(found.time_to_first_token),
        inter_token_latency=_rounded(found.inter_token_latency),
        output_tokens_per_second=_rounded(found.output_tokens_per_second),
        output_tokens_per_second_per_request=_rounded(1.0 / found.inter_token_latency),
        requests_per_second=_rounded(found.requests_per_second),
        napkin_tokens_per_second=_rounded(found.napkin_tokens_per_second),
        gpu_measured=None if measured is None else measured.at,
        ranges=None if server.drafting is not None else _ranges(asked, layout, gpu, found),
        bounds=_bounds(expected, server, found),
        drafts=drafts,
        correction=by,
    )


def _correction(asked: Asked, layout: Layout, load: Load) -> SpeedCorrection | None:
    """What a measured server of the kind corrects by; none shared a prefix, none drafted."""
    split = layout.parallelism
    kind = Kind(
        model=asked.spec.model.id,
        version=str(asked.version),
        gpu=layout.gpu.offer.product,
        engine=engine_digest(asked.engine),
        tensor=split.tensor,
        pipeline=split.pipeline,
        data=split.data,
        estimate=coefficients.fingerprint(),
    )
    unlike = asked.load.shared_tokens or asked.features.speculation is not None
    found = None if unlike else correction(asked.measured_speeds, kind, load)
    if found is None:
        return None
    return SpeedCorrection(
        measured_at=found.at,
        inter_token_latency=_rounded(found.between),
        output_tokens_per_second=_rounded(found.throughput),
    )


def _corrected(found: PerformanceEstimate, by: SpeedCorrection) -> PerformanceEstimate:
    more = by.output_tokens_per_second
    return replace(
        found,
        inter_token_latency=found.inter_token_latency * by.inter_token_latency,
        output_tokens_per_second=found.output_tokens_per_second * more,
        requests_per_second=found.requests_per_second * more,
    )


def _held(asked: Asked, layout: Layout, kv_bytes: int, tokens: int) -> int:
    """Requests of so many tokens that one engine surely runs at once; at least one."""
    cache = layout.cache
    prefixes = prefixes_of(asked, first_engine=cache.settings.first_engine)
    shared = shared_blocks(prefixes, cache, min(asked.load.shared_tokens, tokens - 1))
    held = (cache.blocks_in(kv_bytes) - shared) / (cache.blocks_for(tokens) - shared)
    return max(1, min(layout.admitted, int(held)))


def _ranges(
    asked: Asked, layout: Layout, gpu: GPUPerformance, found: PerformanceEstimate
) -> PerformanceRanges:
    measured = was_measured(gpu, layout.parallelism, layout.division.nodes)
    measured = measured and not asked.load.shared_tokens  # no run shares a prefix
    kind = kind_of(asked.architecture)

    def around(figure: Figure, value: float) -> Range:
        known = interval(figure, value, kind, measured=measured)
        return Range(low=_rounded(known.low), high=_rounded(known.high))

    return PerformanceRanges(
        time_to_first_token=around("first", found.time_to_first_token),
        inter_token_latency=around("between", found.inter_token_latency),
        output_tokens_per_second=around("throughput", found.output_tokens_per_second),
    )


def _bounds(expected: _Expected, server: Server, found: PerformanceEstimate) -> StepBounds:
    split = expected.layout.parallelism
    batch = max(1.0, found.batch / (split.data * split.pipeline))
    computed = expected.prompt - expected.cached
    room = server.limits.tokens - min(batch * server.width, server.limits.tokens - 1.0)
    known = bounds_of(
        server,
        batch=batch,
        context=expected.prompt + expected.output / 2,
        chunk=max(1.0, min(computed, room)),
        seen=(expected.cached + expected.prompt) / 2,
    )
    return StepBounds(
        generating=_bound(known.generating),
        prompts=_bound(known.prompts),
        arithmetic_from_tokens=known.turns_at,
    )


def _bound(known: Bound) -> StepBound:
    return StepBound(by=known.by, share=round(known.share, 2))


def _drafts(expected: _Expected, found: PerformanceEstimate) -> Drafts | None:
    """What drafts do with the expected load; None where there are none."""
    speculation = expected.asked.features.speculation
    if speculation is None:
        return None
    acceptance = expected.asked.load.draft_acceptance
    server, best = expected.with_drafts(1.0)
    without = found if acceptance is None else expected.with_drafts(None)[1]
    drafting = server.drafting
    assert drafting is not None
    return Drafts(
        acceptance=acceptance,
        tokens_per_step=None if acceptance is None else 1 + acceptance * speculation.tokens,
        break_even_acceptance=_break_even(expected, server, without.output_tokens_per_second),
        answer_share_at_best=_rounded(
            _seconds(best, expected.output) / _seconds(without, expected.output)
        ),
        output_tokens_per_second_without=_rounded(without.output_tokens_per_second),
        weight_share=None
        if drafting.work is None
        else _rounded(drafting.work.napkin_bytes(0.0) / server.work.napkin_bytes(0.0)),
    )


def _seconds(found: PerformanceEstimate, output: int) -> float:
    """Seconds of an answer."""
    return found.time_to_first_token + (output - 1) * found.inter_token_latency


def _break_even(expected: _Expected, server: Server, wanted: float) -> float | None:
    """The share of drafts from which on ``wanted`` tokens a second are made; None for none."""
    drafting = server.drafting
    assert drafting is not None

    def made(acceptance: float) -> float:
        accepted = replace(drafting, accepted=acceptance * drafting.tokens)
        one = replace(server, drafting=accepted)
        found = one.steady(expected.prompt, expected.output, expected.concurrency, expected.cached)
        return found.output_tokens_per_second

    if made(1.0) < wanted:
        return None
    low, high = 0.0, 1.0
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if made(middle) < wanted else (low, middle)
    return round(high, 2)


def expected_cost(asked: Asked, layout: Layout, speed: Performance | None) -> Cost | None:
    """What one replica costs, in all and for a million tokens at the expected load."""
    price, hour = asked.prices.of(layout.gpu.offer.product), per_hour(asked, layout)
    if price is None or hour is None:
        return None
    output = whole = None
    if speed is not None:
        output = per_million_tokens(hour, speed.output_tokens_per_second)
        whole = output * speed.output_tokens / (speed.prompt_tokens + speed.output_tokens)
    return Cost(
        currency=asked.prices.currency,
        gpu_hour=price,
        hour=_rounded(hour),
        million_output_tokens=None if output is None else _rounded(output),
        million_tokens=None if whole is None else _rounded(whole),
    )


def _rounded(value: float) -> float:
    """Three digits: nobody knows more."""
    return float(f"{value:.3g}")
