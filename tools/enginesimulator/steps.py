"""How long a step of a simulated engine takes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

from vllm_operator.engine.graphs import LARGEST
from vllm_operator.sizing.performance.step import ExpertTimes, StageTimes, Times

from .compiled import floats, integers

LARGEST_STEP: Final = 16384
"""Tokens of a step up to which times are tabulated."""
JITTERS: Final = 4096
"""Factors that are drawn once and used in turn."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something beside the engine that makes its steps slower for a while."""

    start: float
    """Seconds since the simulation's start."""
    end: float
    factor: float
    pod: int | None
    """Which of the stable pods; None for all."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What the times of steps really are; each figure multiplies the *time* of a part."""

    overhead: float = 1.0
    """Work of every step, and the host's for every sequence and request."""
    bandwidth: float = 1.0
    """Reading weights, reading and writing activations, communication."""
    compute: float = 1.0
    """Multiplications and the attention's arithmetic."""
    cache_bandwidth: float = 1.0
    """Reading the KV cache."""
    bend_batch: int = 1 << 30
    bend_factor: float = 1.0
    """Steps of more sequences than ``bend_batch`` take so many times as long."""
    jitter: float = 0.0
    """Sigma of a lognormal factor on each step."""
    disturbances: tuple[Disturbance, ...] = ()

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Truth:
        """From a workload's ``truth``."""
        bend = told.get("bend") or {}
        return cls(
            overhead=told.get("overhead", 1.0),
            bandwidth=told.get("bandwidth", 1.0),
            compute=told.get("compute", 1.0),
            cache_bandwidth=told.get("cacheBandwidth", 1.0),
            bend_batch=bend.get("batch", 1 << 30),
            bend_factor=bend.get("factor", 1.0),
            jitter=told.get("jitter", 0.0),
            disturbances=tuple(
                Disturbance(
                    60.0 * one["minute"],
                    60.0 * (one["minute"] + one["minutes"]),
                    one["factor"],
                    one.get("pod"),
                )
                for one in told.get("disturbances", ())
            ),
        )


class StepTable(NamedTuple):
    """A step's times as arrays. Seconds, and seconds a token."""

    base: Any
    """By tokens of the step, padded: all but attention, the output head and the host."""
    head: Any
    """Arithmetic a sampled token, weights, activations and sampling a sampled token."""
    kinds: Any
    """Five figures for each kind of attention, as ``StageTimes.attention``; window 0 for none."""
    padded: Any
    """By tokens: the captured size that such a step is padded to."""
    extra: Any
    """What a step takes at least without a graph; the host's time a sequence; 1 where that is
    hidden; the host's time a step, where it is; the API server's time a sequence."""
    bend: Any
    """Sequences, and the factor of a larger step."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """One engine's step times as planned, with and without CUDA graphs."""

    graphs: Times
    eager: Times
    request_seconds: float = 0.0
    """The API server's work for each request."""
    largest_graph: int = LARGEST
    """0 where the engine is eager anyway."""


def captured_sizes(max_num_seqs: int, tokens: int, largest: int = LARGEST) -> list[int]:
    """The batch sizes of CUDA graphs.

    vLLM 0.32.0 ``config/vllm.py::_set_cudagraph_sizes``: 1, 2, 4, eights below 256 and sixteens up
    to twice ``max_num_seqs``, at most ``largest``; ``max_num_batched_tokens`` and ``max_num_seqs``
    where they fit.
    """
    most = min(2 * max_num_seqs, largest, tokens)
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, most + 1, 16), tokens, max_num_seqs]
    return sorted({size for size in sizes if size <= most})


def step_table(hardware: Hardware, truth: Truth, max_num_seqs: int, tokens: int) -> StepTable:
    """The times of an engine with such limits."""
    base, head, kinds, extra = _tables(hardware, truth)
    padded, size = [0], 0
    largest = hardware.largest_graph
    for size in captured_sizes(max_num_seqs, tokens, largest) if largest else ():
        padded += [size] * (size + 1 - len(padded))
    return StepTable(
        base=base,
        head=head,
        kinds=kinds,
        padded=integers(padded),
        extra=extra,
        bend=floats([float(truth.bend_batch), truth.bend_factor]),
    )


@lru_cache(maxsize=8)
def _tables(hardware: Hardware, truth: Truth) -> tuple[Any, Any, Any, Any]:
    graphs, eager = scaled(hardware.graphs, truth), scaled(hardware.eager, truth)
    times, stage = (hardware.graphs, graphs) if hardware.largest_graph else (hardware.eager, eager)
    body = replace(stage, head=None, launch_seconds=0.0)
    sizes = map(float, range(LARGEST_STEP + 1))
    base = [body.seconds(0.0, 0.0, tokens, 0.0, tokens) for tokens in sizes]
    arithmetic, weights, activations = stage.head or (0.0, 0.0, 0.0)
    return (
        floats(base),
        floats([arithmetic, weights, activations, stage.sample_seconds if stage.head else 0.0]),
        floats([float(part or 0.0) for kind in stage.attention for part in kind]),
        floats(
            [
                stage.launch_seconds,
                times.host_seconds * truth.overhead,
                float(times.asynchronous),
                times.host_step_seconds * truth.overhead,
                times.answer_seconds * truth.overhead,
            ]
        ),
    )


def scaled(times: Times, truth: Truth) -> StageTimes:
    """The one stage of ``times`` with the truth's factors."""
    if len(times.stages) != 1 or times.stages[0][1] != 1 or times.ranks != 1:
        raise ValueError("only servers of one pipeline stage and one engine are simulated")
    stage = times.stages[0][0]
    compute, bandwidth, cache = truth.compute, truth.bandwidth, truth.cache_bandwidth

    def matrix(one: tuple[float, float, float]) -> tuple[float, float, float]:
        return one[0] * compute, one[1] * bandwidth, one[2] * bandwidth

    def experts(one: ExpertTimes) -> ExpertTimes:
        arithmetic, weights, activations = matrix((one.arithmetic, one.weights, one.activations))
        return replace(one, arithmetic=arithmetic, weights=weights, activations=activations)

    return replace(
        stage,
        linears=tuple(matrix(one) for one in stage.linears),
        experts=tuple(experts(one) for one in stage.experts),
        attention=tuple(
            (first * compute, later * compute, read * cache, window, state * cache)
            for first, later, read, window, state in stage.attention
        ),
        head=matrix(stage.head) if stage.head else None,
        token_seconds=stage.token_seconds * bandwidth,
        fixed_seconds=stage.fixed_seconds * truth.overhead,
        launch_seconds=stage.launch_seconds * truth.overhead,
        sample_seconds=stage.sample_seconds * bandwidth,
    )


def jitters(sigma: float, seed: str) -> tuple[Any, Any, Any]:
    """Factors on steps, their sums up to each, and the sums of factor times place."""
    draw = random.Random(seed)
    factors = [draw.lognormvariate(0.0, sigma) if sigma else 1.0 for _ in range(JITTERS)]
    sums, moments = [0.0], [0.0]
    for place, factor in enumerate(factors):
        sums.append(sums[-1] + factor)
        moments.append(moments[-1] + place * factor)
    return floats(factors), floats(sums), floats(moments)


def slowdowns(disturbances: Sequence[Disturbance], pod: int | None) -> tuple[Any, Any]:
    """The times at which the factor on a pod's steps changes, from 0 on, and the factors."""
    mine = [one for one in disturbances if one.pod is None or one.pod == pod]
    times = sorted({0.0, *(one.start for one in mine), *(one.end for one in mine)})
    factors = []
    for time in times:
        factor = 1.0
        for one in mine:
            factor *= one.factor if one.start <= time < one.end else 1.0
        factors.append(factor)
    return floats(times), floats(factors)
