"""A GPU as it was measured, in place of its datasheet.

A datasheet promises what no multiplication reaches, and a GPU with another power limit, cooling or
memory clock than its sheet's does less, or more. What serving reaches is known as a share of the
datasheets of GPUs on which vLLM was measured (``coefficients.csv``); what a large multiplication
or copy reaches on the same GPUs is in ``reached.csv``. So a GPU that was measured at ``m`` serves
as one would whose datasheet says ``m / share``.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Literal

from vllm_operator import datafiles
from vllm_operator.engine.versions import Version
from vllm_operator.hardware.measured import MeasuredGPU
from vllm_operator.hardware.performance import GPUPerformance

from .coefficients import coefficients

Figure = Literal["16bit", "fp8", "copy"]


def as_measured(gpu: GPUPerformance, found: MeasuredGPU | None, version: Version) -> GPUPerformance:
    """``gpu`` with the peaks that its datasheet would have to give for what was measured.

    What was not measured stays the datasheet's: integers, FP4, and the latency of links.
    """
    if found is None:
        return gpu
    eight, link = found.flops_fp8, found.all_reduce_bandwidth
    reaches = coefficients(version, gpu.generation, gpu.link).link_efficiency
    return replace(
        gpu,
        flops_16bit=found.flops_16bit / share("16bit", gpu.generation),
        flops_fp8=gpu.flops_fp8 if eight is None else eight / share("fp8", gpu.generation),
        memory_bandwidth=found.copy_bandwidth / share("copy", gpu.generation),
        link_bandwidth=gpu.link_bandwidth if link is None else link / reaches,
        source=f"measured {found.at}; {gpu.source}",
    )


def share(figure: Figure, generation: str) -> float:
    """The share of the datasheet that GPUs reach on which vLLM was measured.

    Of those that ``coefficients.csv`` rests on for this generation; the median of several.
    """
    named: list[float] = []
    others: list[float] = []
    for row in datafiles.rows(__package__, "reached.csv"):
        if row["figure"] != figure:
            continue
        value = float(row["reached"]) / float(row["peak"])
        if generation in row["generations"].split("|"):
            named.append(value)
        elif not row["generations"]:
            others.append(value)
    return statistics.median(named or others)


def fingerprint() -> str:
    """Hash of the shares: an estimate made with others may come out differently."""
    return datafiles.fingerprint(__package__, "reached.csv")
