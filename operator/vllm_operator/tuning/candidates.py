"""Which settings may be tried, before anybody asks what they would do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from vllm_operator.engine.flags import serve_flags
from vllm_operator.engine.graphs import PER_SEQUENCE, USUAL, Graphs
from vllm_operator.engine.versions import Version

from .curve import Posterior
from .knobs import Knobs
from .load import Fingerprint

MOST_SEQS: Final = 1024
FINE: Final = 1.08
"""Between two caps that are tried: nearer ones are hardly another setting."""
COARSE: Final = 1.2
"""The same where tokens of a step move too."""
BATCHED_TOKENS: Final = (512, 1024, 2048, 4096, 8192, 16384)
TRUSTED: Final = 4.0
"""Times the batch that was seen, or the tokens of a step, to which a fit is followed."""
FURTHEST: Final = 8.0
"""Times smaller than those seen a batch is that is tried at all, where nothing nearer helps."""
NARROW: Final = 2.0
"""The same where the fit is less sure, or the curve was seen to have another shape."""
NEAR_ENOUGH: Final = 1.05
UNSURE: Final = 0.16
TOO_UNSURE: Final = 0.25


def captured_sizes() -> tuple[int, ...]:
    """Batches for which vLLM captures a CUDA graph, or that end on one: 1, 2, 4, multiples of 8,
    and of 16 above 256 (0.32.0 ``config/vllm.py``, ``_set_cudagraph_sizes``; before, multiples of
    8 throughout)."""
    return (1, 2, 4, *range(8, 257, 8), *range(272, MOST_SEQS + 1, 16))


def caps(step: float) -> tuple[int, ...]:
    """Captured sizes, each at least ``step`` times the one before."""
    found: list[int] = []
    for size in captured_sizes():
        if not found or size >= step * found[-1]:
            found.append(size)
    return tuple(found)


def has_active_seqs(version: Version) -> bool:
    """Whether a version has ``--max-num-active-seqs``."""
    return "--max-num-active-seqs" in serve_flags(version)


@dataclass(frozen=True, slots=True)
class Range:
    """Values between both, None where there is no bound."""

    min: float | None = None
    max: float | None = None

    def __contains__(self, value: float) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a person, the engine's version and the past allow."""

    active_seqs: bool = False
    """Whether the version has ``--max-num-active-seqs``: see ``has_active_seqs``."""
    pinned_seqs: bool = False
    """In the specification. It takes ``--max-num-active-seqs`` with it, which would say otherwise.
    """
    pinned_tokens: bool = False
    pinned_utilization: bool = False
    seqs: Range = Range()
    """``bounds.maxNumSeqs``, of whatever caps the requests that run at once."""
    tokens: Range = Range()
    utilization: Range = Range()
    rejected: tuple[tuple[Knobs, Fingerprint], ...] = ()
    """Settings that were taken back, and under which load."""
    graphs: Graphs = USUAL
    cold_seconds: float = 0.0
    """Of a start whose compile cache does not fit: other sequences or tokens of a step."""
    warm_seconds: float = 0.0
    first_latency: float | None = None
    """Mean seconds between tokens when tuning began, of which at most twice is caused without an
    objective; None for today's."""

    @property
    def all_pinned(self) -> bool:
        """Whether nothing is left to tune."""
        return self.pinned_seqs and self.pinned_tokens and self.pinned_utilization


def is_cold(now: Knobs, then: Knobs) -> bool:
    """Whether the compile cache of ``now`` does not serve ``then``: its key holds both limits
    (vllm 0.32.0 ``config/scheduler.py``, ``compute_hash``), not utilization or active sequences."""
    before = now.max_num_seqs, now.max_num_batched_tokens
    return before != (then.max_num_seqs, then.max_num_batched_tokens)


def changed(now: Knobs, then: Knobs) -> int:
    """How many knobs differ."""
    return (
        (now.cap != then.cap)
        + (now.max_num_batched_tokens != then.max_num_batched_tokens)
        + (now.gpu_memory_utilization != then.gpu_memory_utilization)
    )


def distance(now: Knobs, then: Knobs) -> float:
    """By how much they differ: the product of the ratios of cap and tokens."""
    ratios = (
        (now.cap, then.cap),
        (now.max_num_batched_tokens, then.max_num_batched_tokens),
    )
    product = 1.0
    for one, other in ratios:
        product *= max(one, other) / min(one, other)
    return product


def rejected(knobs: Knobs, rules: Rules, load: Fingerprint) -> bool:
    """Whether the same was taken back under such a load."""
    effective = _effective(knobs)
    return any(_effective(one) == effective and under.like(load) for one, under in rules.rejected)


def _effective(knobs: Knobs) -> tuple[int, int, float]:
    return knobs.cap, knobs.max_num_batched_tokens, round(knobs.gpu_memory_utilization, 3)


def candidates(
    now: Knobs, rules: Rules, *, ceiling: float | None, tokens: bool, most: float
) -> Iterator[Knobs]:
    """Settings within bounds and without pinned knobs; ``now`` is not among them.

    ``most``: requests at once beyond which nothing is known, unless so many run now.
    ``ceiling``: the utilization to which the planner would go, None to leave it alone.
    ``tokens``: whether ``--max-num-batched-tokens`` may move.
    """
    utilizations = [now.gpu_memory_utilization]
    if ceiling is not None and not rules.pinned_utilization:
        limit = rules.utilization.max
        raised = ceiling if limit is None else min(ceiling, limit)
        if raised > now.gpu_memory_utilization + 0.004 and raised in rules.utilization:
            utilizations.append(raised)
    sizes = [now.max_num_batched_tokens]
    if tokens and not rules.pinned_tokens:
        sizes += [one for one in BATCHED_TOKENS if one != sizes[0] and one in rules.tokens]
    most = max(most, now.cap)
    for utilization in utilizations:
        for size in sizes:
            wanted = [now.cap]
            if not rules.pinned_seqs:
                step = FINE if size == now.max_num_batched_tokens else COARSE
                wanted += [one for one in caps(step) if one != now.cap and one in rules.seqs]
            for cap in wanted:
                knobs = replace(
                    _capped(now, cap, rules),
                    max_num_batched_tokens=size,
                    gpu_memory_utilization=utilization,
                )
                if size != now.max_num_batched_tokens:
                    knobs = _graphed(knobs, rules)
                if cap <= most and knobs != now and size >= knobs.max_num_seqs:
                    yield knobs


def has_graphs(knobs: Knobs, graphs: Graphs) -> bool:
    """Whether steps have CUDA graphs whatever they carry."""
    return knobs.max_num_batched_tokens <= graphs.captured(knobs.max_num_seqs)


def _graphed(knobs: Knobs, rules: Rules) -> Knobs:
    """``knobs`` with as many sequences as give each step a CUDA graph, admitting no more requests:
    where steps are small enough for that, and the version can."""
    tokens = knobs.max_num_batched_tokens
    seqs = next((size for size in captured_sizes() if PER_SEQUENCE * size >= tokens), MOST_SEQS)
    free = rules.active_seqs and not (rules.pinned_seqs or rules.graphs.stated)
    free = free and seqs in rules.seqs
    more = replace(knobs, max_num_seqs=seqs, max_num_active_seqs=knobs.cap)
    if not free or seqs <= knobs.max_num_seqs or not has_graphs(more, rules.graphs):
        return knobs
    return more


def _capped(now: Knobs, cap: int, rules: Rules) -> Knobs:
    """``now`` with another cap; by admission alone where the version can."""
    if cap == now.cap:
        return now
    if rules.active_seqs and cap <= now.max_num_seqs:
        return replace(now, max_num_active_seqs=None if cap == now.max_num_seqs else cap)
    return replace(now, max_num_seqs=cap, max_num_active_seqs=None)


def trusted(
    now: Knobs,
    then: Knobs,
    posterior: Posterior,
    rules: Rules,
    *,
    batch: float,
    deviation: float,
    far: bool = False,
) -> bool:
    """Whether a curve that was seen only in part may be followed there.

    ``batch`` tokens would be generated in a step at most, where the standard deviation of the
    logarithm of its time is ``deviation``. Up to four times as many as were seen are trusted, twice
    where the fit is unsure; not beyond the largest CUDA graph, where another curve begins, unless
    it was seen there. Downwards to a quarter, or an eighth where ``far``: where all places are
    taken all steps are alike, and do not tell the reading of weights from the rest. Tokens of a
    step likewise, upwards: smaller pieces of prompts than now are among those that were seen. Only
    one of both by more than half of that.
    """
    wide = NARROW if posterior.shape_wrong or deviation > UNSURE else TRUSTED
    more = 1.0
    least = FURTHEST if far else TRUSTED
    if then.cap < now.cap and least * NEAR_ENOUGH * batch < posterior.batch:
        return False
    if then.cap > now.cap:
        more = max(1.0, batch / max(1.0, posterior.batch))
        beyond = batch > rules.graphs.largest >= posterior.batch
        if more > NEAR_ENOUGH * wide or beyond or deviation > TOO_UNSURE:
            return False
    tokens = then.max_num_batched_tokens / now.max_num_batched_tokens
    half = NEAR_ENOUGH * math.sqrt(wide)
    return tokens <= wide and (more <= half or tokens <= half)
