"""The plan's figures: every byte of a GPU accounted for, and what the KV cache holds."""

from __future__ import annotations

from vllm_operator.api.plan import (
    Capacity,
    MemoryLedger,
    Performance,
    Placement,
    PlannedModel,
    RatioEstimate,
    TokenEstimate,
)
from vllm_operator.hardware import performance as gpu_performance
from vllm_operator.models.architecture import relevant_facts

from . import memory, performance
from .layout import Layout
from .request import Request
from .weights import draft_bytes


def memory_ledger(layout: Layout) -> MemoryLedger:
    """Bytes of one GPU. ``budget`` is exactly the sum of its parts."""
    footprint = layout.footprint
    total, utilization = layout.gpu.offer.memory_bytes, layout.utilization.value
    expected, low = footprint.kv_cache(total, utilization)
    free_expected, free_low = footprint.free_at_start(total)
    return MemoryLedger(
        total=total,
        utilization=utilization,
        budget=memory.budget_of(total, utilization),
        weights=footprint.weights.expected,
        draft_weights=_draft_bytes(layout),
        adapters=layout.adapters or None,
        activation_peak=footprint.activation_peak.expected,
        cuda_graphs=footprint.cuda_graphs.expected,
        non_torch=footprint.non_torch.expected,
        kv_cache=TokenEstimate(expected=expected, low=low),
        margin=expected - low,
        outside_budget=footprint.context.expected + footprint.cuda_graphs_outside.expected,
        free_at_start=TokenEstimate(expected=free_expected, low=free_low),
    )


def _draft_bytes(layout: Layout) -> int | None:
    draft = layout.draft
    return None if draft is None else draft_bytes(draft, layout.parallelism, layout.element_bytes)


def capacity(request: Request, layout: Layout, ledger: MemoryLedger) -> Capacity:
    """Tokens and concurrency as the planned version prints them, for both KV-cache figures."""
    length, size = layout.max_model_len.value, layout.block_size
    figures = [
        layout.cache.printed(kv_bytes, length)
        for kv_bytes in (ledger.kv_cache.expected, ledger.kv_cache.low)
    ]
    return Capacity(
        max_model_len=length,
        max_num_seqs=layout.max_num_seqs.value,
        max_num_batched_tokens=layout.max_num_batched_tokens.value,
        block_size=size,
        bytes_per_block=layout.cache.bytes_per_block,
        kv_tokens=TokenEstimate(expected=figures[0][0], low=figures[1][0]),
        max_concurrency=RatioEstimate(
            expected=round(figures[0][1], 2), low=round(figures[1][1], 2)
        ),
    )


def expected_performance(
    request: Request, layout: Layout, ledger: MemoryLedger
) -> Performance | None:
    """One replica under the expected load, or as many such requests as it surely holds.

    None where nothing is known of the GPU. What is taken of pipelines, data-parallel ranks and the
    links between nodes stands in ``performance``.
    """
    gpu = gpu_performance.find(layout.gpu.offer.product)
    if gpu is None or request.architecture.pooling:
        return None
    load, length, ranks = request.load, layout.max_model_len.value, request.pins.ranks
    output = min(load.output_tokens, max(1, length // 2)) if not load.stated else load.output_tokens
    prompt = max(1, min(load.prompt_tokens, length - output))
    _, held = layout.cache.printed(ledger.kv_cache.low, prompt + output)
    held_at_once = max(1, min(layout.max_num_seqs.value, int(held)))
    workload = request.spec.workload
    asked = workload.concurrency if workload else None
    concurrency = asked or held_at_once * ranks
    found = _estimate(request, layout, gpu, prompt, output, concurrency)
    return Performance(
        prompt_tokens=prompt,
        output_tokens=output,
        concurrency=concurrency,
        time_to_first_token=_rounded(found.time_to_first_token),
        inter_token_latency=_rounded(found.inter_token_latency),
        output_tokens_per_second=_rounded(found.output_tokens_per_second),
        requests_per_second=_rounded(found.requests_per_second),
        napkin_tokens_per_second=_rounded(found.napkin_tokens_per_second),
    )


def _estimate(
    request: Request,
    layout: Layout,
    gpu: gpu_performance.GPUPerformance,
    prompt: int,
    output: int,
    concurrency: int,
) -> performance.PerformanceEstimate:
    """What a layout does with so many requests of so many tokens at once."""
    return performance.estimate(
        request.architecture,
        gpu,
        layout.parallelism,
        nodes=layout.division.nodes,
        element_bytes=layout.element_bytes,
        kv_element_bytes=layout.kv_element_bits / 8,
        version=request.version,
        max_num_batched_tokens=layout.max_num_batched_tokens.value,
        max_num_seqs=layout.max_num_seqs.value,
        enforce_eager=not request.captures_graphs,
        prompt_tokens=prompt,
        output_tokens=output,
        concurrency=concurrency,
    )


def seconds_of_answer(request: Request, layout: Layout) -> float | None:
    """Seconds of one expected answer under the expected load, or alone where none is stated.

    None where nothing is known of the GPU.
    """
    gpu = gpu_performance.find(layout.gpu.offer.product)
    if gpu is None or request.architecture.pooling:
        return None
    load = request.load
    concurrency = (load.concurrency or 1) * request.pins.ranks
    found = _estimate(request, layout, gpu, load.prompt_tokens, load.output_tokens, concurrency)
    return found.time_to_first_token + load.output_tokens * found.inter_token_latency


def _rounded(value: float) -> float:
    """Three digits: nobody knows more."""
    return float(f"{value:.3g}")


def placement(layout: Layout) -> Placement:
    """Where one replica runs."""
    offer = layout.gpu.offer
    return Placement(
        gpu=offer.product,
        gpu_memory_bytes=offer.memory_bytes,
        gpus_per_node=offer.per_node,
        tensor=layout.parallelism.tensor,
        pipeline=layout.parallelism.pipeline,
        data=layout.parallelism.data,
        expert=layout.parallelism.expert,
        nodes=layout.division.nodes,
        gpus_per_replica=layout.division.gpus,
    )


def planned_model(request: Request) -> PlannedModel:
    """The model as sizing saw it."""
    model = request.spec.model
    return PlannedModel(
        id=model.id,
        revision=model.revision,
        parameters=request.architecture.parameters,
        weight_bytes=request.weight_bytes,
        facts=relevant_facts(request.facts.config),
        source=request.facts.source,
    )
