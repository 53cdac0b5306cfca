"""How far the figures of an estimate may lie from what is measured: ``intervals.csv``.

Calibrated by ``tools/fitting/fit_intervals.py`` on published runs that the fit had not seen: nine
of ten of them lie inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from vllm_operator import datafiles
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.models.shapes import Architecture
from vllm_operator.sizing.split.parallelism import Parallelism

Figure = Literal["throughput", "between", "first"]
Kind = Literal["dense", "experts", "latent"]
MEASURED: Final = frozenset({"ampere", "hopper"})
"""Generations of GPUs that more than one published run is of."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where nine of ten measurements lie."""

    low: float
    high: float


def kind_of(architecture: Architecture) -> Kind:
    """What errors depend on most: latent attention (sparse or not), routed experts, or neither."""
    if architecture.latent or architecture.compressed:
        return "latent"
    return "experts" if architecture.has_experts else "dense"


def was_measured(gpu: GPUPerformance, split: Parallelism, nodes: int) -> bool:
    """Whether published runs judge such a layout: on A100, H100 or H200 (their generations), in one
    node, without stages and data-parallel ranks."""
    return gpu.generation in MEASURED and split.pipeline == split.data == nodes == 1


def interval(figure: Figure, value: float, kind: Kind, *, measured: bool) -> Interval:
    """The interval around ``value``: its product with the factor of ``intervals.csv``, and its
    quotient. Where no run judges the layout, the factor of ``unmeasured`` comes on top."""
    factors = _factors()
    factor = factors[figure, kind] * (1.0 if measured else factors[figure, "unmeasured"])
    return Interval(value / factor, value * factor)


def fingerprint() -> str:
    """Hash of the intervals: a plan made with others may tell others."""
    return datafiles.fingerprint(__package__, "intervals.csv")


@lru_cache(maxsize=1)
def _factors() -> dict[tuple[str, str], float]:
    rows = datafiles.rows(__package__, "intervals.csv")
    return {(row["figure"], row["kind"]): float(row["factor"]) for row in rows}
