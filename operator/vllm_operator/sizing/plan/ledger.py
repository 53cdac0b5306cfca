"""The plan's figures: every byte of a GPU accounted for, and what the KV cache holds."""

from __future__ import annotations

from dataclasses import replace

from vllm_operator.api.plan import (
    Capacity,
    MemoryLedger,
    Performance,
    PerformanceRanges,
    Placement,
    PlannedModel,
    Range,
    RatioEstimate,
    SpeedCorrection,
    TokenEstimate,
)
from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.models.architecture import relevant_facts
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.layout.search import Layout
from vllm_operator.sizing.layout.speed import estimated, measured_gpu, performance_of
from vllm_operator.sizing.memory.accounting import budget_of
from vllm_operator.sizing.memory.weights import draft_bytes
from vllm_operator.sizing.performance.intervals import Figure, interval, kind_of, was_measured
from vllm_operator.sizing.performance.learned import Kind, Load, correction
from vllm_operator.sizing.performance.server import PerformanceEstimate


def memory_ledger(layout: Layout) -> MemoryLedger:
    """Bytes of one GPU. ``budget`` is exactly the sum of its parts."""
    footprint = layout.footprint
    total, utilization = layout.gpu.offer.memory_bytes, layout.utilization.value
    expected, low = footprint.kv_cache(total, utilization)
    free_expected, free_low = footprint.free_at_start(total)
    return MemoryLedger(
        total=total,
        utilization=utilization,
        budget=budget_of(total, utilization),
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


def capacity(asked: Asked, layout: Layout, ledger: MemoryLedger) -> Capacity:
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
    _, held = layout.cache.printed(ledger.kv_cache.low, prompt + output)
    held_at_once = max(1, min(layout.admitted, int(held)))
    workload = asked.spec.workload
    concurrency = (workload.concurrency if workload else None) or held_at_once * ranks
    found = estimated(asked, layout, gpu, prompt, output, concurrency)
    measured = measured_gpu(asked, layout)
    corrected = _correction(asked, layout, Load(prompt, output, max(1, round(concurrency))))
    found = found if corrected is None else _corrected(found, corrected)
    return Performance(
        prompt_tokens=prompt,
        output_tokens=output,
        concurrency=concurrency,
        time_to_first_token=_rounded(found.time_to_first_token),
        inter_token_latency=_rounded(found.inter_token_latency),
        output_tokens_per_second=_rounded(found.output_tokens_per_second),
        requests_per_second=_rounded(found.requests_per_second),
        napkin_tokens_per_second=_rounded(found.napkin_tokens_per_second),
        ranges=_ranges(asked, layout, gpu, found),
        gpu_measured=None if measured is None else measured.at,
        correction=corrected,
    )


def _correction(asked: Asked, layout: Layout, load: Load) -> SpeedCorrection | None:
    split = layout.parallelism
    kind = Kind(
        model=asked.spec.model.id,
        version=str(asked.version),
        gpu=layout.gpu.offer.product,
        tensor=split.tensor,
        pipeline=split.pipeline,
        data=split.data,
    )
    found = correction(asked.measured_speeds, kind, load)
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


def _ranges(
    asked: Asked,
    layout: Layout,
    gpu: GPUPerformance,
    found: PerformanceEstimate,
) -> PerformanceRanges:
    measured = was_measured(gpu, layout.parallelism, layout.division.nodes)
    kind = kind_of(asked.architecture)

    def around(figure: Figure, value: float) -> Range:
        known = interval(figure, value, kind, measured=measured)
        return Range(low=_rounded(known.low), high=_rounded(known.high))

    return PerformanceRanges(
        time_to_first_token=around("first", found.time_to_first_token),
        inter_token_latency=around("between", found.inter_token_latency),
        output_tokens_per_second=around("throughput", found.output_tokens_per_second),
    )


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


def planned_model(asked: Asked) -> PlannedModel:
    """The model as sizing saw it."""
    model = asked.spec.model
    return PlannedModel(
        id=model.id,
        revision=model.revision,
        parameters=asked.architecture.parameters,
        weight_bytes=asked.weight_bytes,
        facts=relevant_facts(asked.facts.config),
        source=asked.facts.source,
    )
