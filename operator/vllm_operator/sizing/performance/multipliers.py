"""How much longer the parts of a step take than the coefficients say: five factors on time."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

from .step import ExpertTimes, StageTimes, Times


class Multipliers(NamedTuple):
    """Natural logarithms of factors on the *time* of each part of a step: 0 as the coefficients
    say, 0.1 about a tenth longer.

    Together they are all of a step: the same number in all makes every step longer by it.
    """

    overheads: float = 0.0
    """Launches, latencies of links, and the host's work for a step, which no size shortens; and the
    API server's answers."""
    bandwidth: float = 0.0
    """Reading weights, reading and writing activations and logits, and traffic between GPUs."""
    compute: float = 0.0
    """Arithmetic of matrices and of attention."""
    cache_bandwidth: float = 0.0
    """Reading the KV cache, and the state of recurrent layers."""
    sequences: float = 0.0
    """The engine's work on the host for each sequence of a step."""

    def shifted(self, by: float) -> Multipliers:
        """All parts longer alike: a step takes exp(``by``) times as long."""
        return Multipliers(*(one + by for one in self))


def scaled(times: Times, multipliers: Multipliers) -> Times:
    """The same parts, each as much longer.

    Which of arithmetic and memory traffic a matrix waits for is decided anew. What the API server
    does for a request is no part of a step and stays.
    """
    factors = Multipliers(*(math.exp(one) for one in multipliers))
    return replace(
        times,
        stages=tuple((_stage(stage, factors), count) for stage, count in times.stages),
        host_seconds=times.host_seconds * factors.sequences,
        host_step_seconds=times.host_step_seconds * factors.overheads,
        answer_seconds=times.answer_seconds * factors.overheads,
    )


def _stage(stage: StageTimes, factors: Multipliers) -> StageTimes:
    bandwidth, compute, cache = factors.bandwidth, factors.compute, factors.cache_bandwidth

    def matrix(times: tuple[float, float, float], count: int = 1) -> tuple[float, float, float]:
        arithmetic, weights, activations = times
        read = bandwidth * count
        return arithmetic * compute * count, weights * read, activations * read

    # Equal matrices go together: a fit asks for the time of a step ten thousand times.
    return StageTimes(
        linears=tuple(matrix(one, count) for one, count in Counter(stage.linears).items()),
        experts=tuple(_experts(one, factors) for one in stage.experts),
        attention=tuple(
            (
                prompt * compute,
                generated * compute,
                read * cache,
                window,
                state * cache,
            )
            for prompt, generated, read, window, state in stage.attention
        ),
        head=matrix(stage.head) if stage.head else None,
        token_seconds=stage.token_seconds * bandwidth,
        shared_seconds=stage.shared_seconds * bandwidth,
        fixed_seconds=stage.fixed_seconds * factors.overheads,
        sample_seconds=stage.sample_seconds * bandwidth,
        launch_seconds=stage.launch_seconds * factors.overheads,
        captured=stage.captured,
    )


def _experts(times: ExpertTimes, factors: Multipliers) -> ExpertTimes:
    return replace(
        times,
        arithmetic=times.arithmetic * factors.compute,
        weights=times.weights * factors.bandwidth,
        activations=times.activations * factors.bandwidth,
    )
