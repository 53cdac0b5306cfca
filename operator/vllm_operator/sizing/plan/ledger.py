"""The plan's figures: every byte of a GPU accounted for, and what the KV cache holds."""

from __future__ import annotations

from vllm_operator.api.plan import (
    Capacity,
    MemoryLedger,
    Placement,
    PlannedModel,
    PrefixCaching,
    RatioEstimate,
    TokenEstimate,
)
from vllm_operator.models.architecture import relevant_facts
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.layout.prefixes import prefixes_of
from vllm_operator.sizing.layout.search import Layout
from vllm_operator.sizing.memory.accounting import budget_of
from vllm_operator.sizing.memory.weights import draft_bytes


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


def prefix_caching(asked: Asked, layout: Layout) -> PrefixCaching | None:
    """Whether prefixes are cached, and why."""
    found = prefixes_of(asked, first_engine=layout.cache.settings.first_engine)
    return None if found is None else PrefixCaching(enabled=found.cached, reason=found.reason)


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
