"""What a step takes its time with: reading memory, arithmetic, or neither.

Of every matrix and every attention the longer of the two counts (``step``); launches, communication
between GPUs and a host that nothing hides are neither.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from .server import Server
from .step import StageTimes

By = Literal["Memory", "Arithmetic", "Overhead"]
MOST_TOKENS: Final = 1 << 16
"""Tokens of a step up to which the turn from memory to arithmetic is looked for."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What most of a step's time goes to, and the share of it that does."""

    by: By
    share: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """What bounds the steps of a load."""

    generating: Bound
    """Steps in which requests generate and no prompt is computed."""
    prompts: Bound
    """Steps with a piece of a prompt."""
    turns_at: int | None
    """Tokens in a step from which its matrices take longer to compute than to read; None where
    there are none."""


def bounds_of(server: Server, *, batch: float, context: float, chunk: float, seen: float) -> Bounds:
    """What bounds steps in which ``batch`` requests of a rank generate, which attend to ``context``
    tokens, and those with ``chunk`` tokens of prompts beside them, which attend to ``seen``."""
    return Bounds(
        generating=_bound(server, batch, context, 0.0, 0.0),
        prompts=_bound(server, batch, context, chunk, seen),
        turns_at=_turns_at([stage for stage, _ in server.times.stages]),
    )


def _bound(server: Server, batch: float, context: float, chunk: float, seen: float) -> Bound:
    times, width = server.times, server.width
    whole = times.step(batch, context, chunk, seen, width=width)
    memory = arithmetic = 0.0
    everyone = (batch * width + chunk) * times.ranks
    for stage, count in times.stages:
        read, computed = _parts(stage, batch, context, chunk, seen, everyone, width)
        memory, arithmetic = memory + read * count, arithmetic + computed * count
    parts: list[tuple[float, By]] = [
        (memory, "Memory"),
        (arithmetic, "Arithmetic"),
        (max(0.0, whole - memory - arithmetic), "Overhead"),
    ]
    seconds, by = max(parts, key=lambda one: one[0])
    return Bound(by, min(1.0, seconds / whole))


def _parts(
    stage: StageTimes,
    batch: float,
    context: float,
    chunk: float,
    seen: float,
    everyone: float,
    width: float,
) -> tuple[float, float]:
    """Seconds of memory traffic, and of arithmetic, where each is the longer."""
    read = computed = 0.0
    tokens = batch * width + chunk
    found = [_matrix(one, tokens) for one in stage.linears]
    if stage.head is not None:
        found.append(_matrix(stage.head, batch * width + min(1.0, chunk)))
    for one in stage.experts:
        visited = 1.0 - one.passed_by**everyone
        arithmetic = one.arithmetic * (everyone + one.padding * visited)
        found.append((one.weights * visited + one.activations * everyone, arithmetic))
    for first, later, cache, window, state in stage.attention:
        most = context if window is None else min(context, window)
        prompt = seen if window is None else min(seen, window)
        computed += chunk * prompt * first
        read += batch * state
        found.append((batch * most * cache, batch * most * width * later))
    for traffic, arithmetic in found:
        if traffic >= arithmetic:
            read += traffic
        else:
            computed += arithmetic
    return read, computed


def _matrix(one: tuple[float, float, float], tokens: float) -> tuple[float, float]:
    arithmetic, weights, activations = one
    return weights + activations * tokens, arithmetic * tokens


def _turns_at(stages: list[StageTimes]) -> int | None:
    """The fewest tokens with which all stages' matrices take longer to compute than to read."""
    linears = [linear for stage in stages for linear in stage.linears]
    experts = [one for stage in stages for one in stage.experts]
    weights = sum(linear[1] for linear in linears)
    slope = sum(linear[0] - linear[2] for linear in linears)
    if not experts:
        return math.ceil(weights / slope) if slope > 0 else None

    def turned(tokens: int) -> bool:
        left = weights - slope * tokens
        for one in experts:
            visited = 1.0 - one.passed_by**tokens
            left += one.weights * visited + one.activations * tokens
            left -= one.arithmetic * (tokens + one.padding * visited)
        return left < 0

    if not turned(MOST_TOKENS):
        return None
    low, high = 0, MOST_TOKENS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if turned(middle) else (middle, high)
    return high
