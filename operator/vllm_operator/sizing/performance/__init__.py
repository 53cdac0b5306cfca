"""How fast a server is: a roofline of every matrix, and continuous batching on top of it.

``work`` says what a model asks of each rank, ``step`` how long a step of it takes on a GPU,
``server`` what comes of it under a load. What hardware reaches of its datasheet stands in
``performance_coefficients.csv``, fitted by ``tools/fitting/fit_performance.py``. Times are in
seconds, sizes in bytes.
"""

from __future__ import annotations

from vllm_operator.engine.versions import Version
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.models.shapes import Architecture
from vllm_operator.sizing.parallelism import Parallelism

from .coefficients import Coefficients, choose, coefficients, fingerprint
from .server import Limits, PerformanceEstimate, Server, server
from .work import Work, experts_touched, work_of

__all__ = (
    "Coefficients",
    "Limits",
    "PerformanceEstimate",
    "Server",
    "Work",
    "choose",
    "coefficients",
    "estimate",
    "experts_touched",
    "fingerprint",
    "server",
    "work_of",
)


def estimate(
    architecture: Architecture,
    gpu: GPUPerformance,
    split: Parallelism | None = None,
    *,
    tensor: int = 1,
    pipeline: int = 1,
    nodes: int = 1,
    element_bytes: float = 2,
    kv_element_bytes: float = 2,
    version: Version,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    enforce_eager: bool = False,
    async_scheduling: bool | None = None,
    prompt_tokens: int,
    output_tokens: int,
    concurrency: float,
    kv_concurrency: float | None = None,
) -> PerformanceEstimate:
    """The performance of a server under ``concurrency`` requests that are always in flight.

    ``split`` is how it is divided over ``nodes`` nodes; without it ``tensor`` and ``pipeline`` are.
    ``concurrency`` and the figures are those of the whole server; ``max_num_batched_tokens``,
    ``max_num_seqs`` and ``kv_concurrency`` (how many such requests the KV cache holds, None for
    all) those of one data-parallel rank. ``element_bytes`` are those of matrices that no
    quantisation covers.
    """
    work = work_of(
        architecture,
        split or Parallelism(tensor, pipeline),
        element_bytes=element_bytes,
        kv_element_bytes=kv_element_bytes,
    )
    return server(
        work,
        gpu,
        version=version,
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        kv_concurrency=kv_concurrency,
        enforce_eager=enforce_eager,
        async_scheduling=async_scheduling,
        nodes=nodes,
    ).steady(prompt_tokens, output_tokens, concurrency)
