"""The performance of a server of a given model, GPU, division and limits, in one call."""

from __future__ import annotations

from vllm_operator.engine.versions import Version
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.models.shapes import Architecture
from vllm_operator.sizing.split.parallelism import Parallelism

from .batch import PerformanceEstimate
from .drafting import Drafted
from .server import Server, server
from .work import work_of


def server_of(
    architecture: Architecture,
    gpu: GPUPerformance,
    split: Parallelism,
    *,
    nodes: int = 1,
    element_bytes: float = 2,
    kv_element_bytes: float = 2,
    version: Version,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    enforce_eager: bool = False,
    async_scheduling: bool | None = None,
    kv_concurrency: float | None = None,
    drafted: Drafted | None = None,
    stated_graph: int | None = None,
) -> Server:
    """A server that is divided by ``split`` over ``nodes`` nodes, ready to be asked.

    ``max_num_batched_tokens``, ``max_num_seqs`` and ``kv_concurrency`` (how many requests the KV
    cache holds, None for all) are those of one data-parallel rank. ``element_bytes`` are those of
    matrices that no quantisation covers. ``stated_graph``: see ``server``.
    """
    work = work_of(
        architecture, split, element_bytes=element_bytes, kv_element_bytes=kv_element_bytes
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
        drafted=drafted,
        stated_graph=stated_graph,
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

    As ``server_of``; without ``split`` it is divided by ``tensor`` and ``pipeline``.
    ``concurrency`` and the figures are those of the whole server.
    """
    return server_of(
        architecture,
        gpu,
        split or Parallelism(tensor, pipeline),
        nodes=nodes,
        element_bytes=element_bytes,
        kv_element_bytes=kv_element_bytes,
        version=version,
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        enforce_eager=enforce_eager,
        async_scheduling=async_scheduling,
        kv_concurrency=kv_concurrency,
    ).steady(prompt_tokens, output_tokens, concurrency)
