"""What the operator's metrics say of one server: what was asked for, planned and predicted. Pure.

Few and bounded: at most 21 series of a server, none with a label that grows with time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from vllm_operator.api.plan import Plan
from vllm_operator.api.status import VLLMServerStatus
from vllm_operator.api.v1alpha1 import VLLMServerSpec
from vllm_operator.engine.metrics import edge_above
from vllm_operator.engine.versions import NEWEST_KNOWN, Version

from .tuned import DEFAULT_PERCENTILE


@dataclass(frozen=True, slots=True)
class Family:
    """A gauge of servers, beside the labels ``namespace`` and ``server``."""

    help: str
    labels: tuple[str, ...] = ()


FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {
        "replicas": Family("Replicas that are asked for."),
        "ready_replicas": Family("Replicas that serve."),
        "plan_info": Family(
            "1; what is in force is in the labels.", ("model", "version", "gpu", "layout")
        ),
        "plan_gpus": Family("GPUs of one replica."),
        "plan_max_num_seqs": Family("Requests that one engine runs at once."),
        "plan_max_num_batched_tokens": Family("Tokens of one step of an engine."),
        "plan_gpu_memory_utilization_ratio": Family("Part of each GPU's memory that may be taken."),
        "plan_kv_cache_tokens": Family("Tokens that the KV cache of one engine is to hold."),
        "predicted_concurrency": Family("Requests at once for which a replica's are predicted."),
        "predicted_time_to_first_token_seconds": Family("Of a replica at that concurrency."),
        "predicted_inter_token_latency_seconds": Family("Of a replica at that concurrency."),
        "predicted_output_tokens_per_second": Family("Of a replica at that concurrency."),
        "objective_seconds": Family("A latency that spec.workload.slo names.", ("latency",)),
        "objective_ratio": Family(
            "Part of the requests or tokens that keep it; le is the edge of vLLM's buckets by "
            "which that is counted.",
            ("latency", "le"),
        ),
        "tuning_bound": Family("1 for what tuning has found to bound the server.", ("bound",)),
    }
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of one of the families; ``labels`` are in the family's order."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


def gauges(spec: VLLMServerSpec, status: VLLMServerStatus) -> tuple[Sample, ...]:
    """Of a server as it was asked for and as its status has it; nothing planned where no plan is
    in force."""
    return tuple(_all(spec, status))


def _all(spec: VLLMServerSpec, status: VLLMServerStatus) -> Iterator[Sample]:
    yield Sample("replicas", spec.replicas)
    yield Sample("ready_replicas", status.ready_replicas or 0)
    version = NEWEST_KNOWN
    if (plan := status.plan) is not None:
        layout = status.summary.parallelism if status.summary is not None else None
        version = Version.parse(plan.engine.version)
        labels = plan.model.id, plan.engine.version, plan.placement.gpu, layout or ""
        yield Sample("plan_info", 1, labels)
        yield from _planned(plan)
    yield from _objectives(spec, version)
    if status.tuning is not None and status.tuning.diagnosis is not None:
        yield Sample("tuning_bound", 1, (status.tuning.diagnosis.bound,))


def _planned(plan: Plan) -> Iterator[Sample]:
    capacity, performance = plan.capacity, plan.performance
    yield Sample("plan_gpus", plan.placement.gpus_per_replica)
    yield Sample("plan_max_num_seqs", capacity.max_num_seqs)
    yield Sample("plan_max_num_batched_tokens", capacity.max_num_batched_tokens)
    yield Sample("plan_gpu_memory_utilization_ratio", plan.memory.utilization)
    yield Sample("plan_kv_cache_tokens", capacity.kv_tokens.expected)
    if performance is not None:
        yield Sample("predicted_concurrency", performance.concurrency)
        first, gap = performance.time_to_first_token, performance.inter_token_latency
        yield Sample("predicted_time_to_first_token_seconds", first)
        yield Sample("predicted_inter_token_latency_seconds", gap)
        tokens = performance.output_tokens_per_second
        yield Sample("predicted_output_tokens_per_second", tokens)


def _objectives(spec: VLLMServerSpec, version: Version) -> Iterator[Sample]:
    slo = spec.workload.slo if spec.workload is not None else None
    if slo is None:
        return
    asked = {
        "timeToFirstToken": slo.time_to_first_token_milliseconds,
        "interTokenLatency": slo.inter_token_latency_milliseconds,
    }
    for latency, milliseconds in asked.items():
        if milliseconds is not None:
            seconds = milliseconds / 1000
            yield Sample("objective_seconds", seconds, (latency,))
            share = (slo.percentile or DEFAULT_PERCENTILE) / 100
            edge = edge_above(latency, seconds, version)
            yield Sample("objective_ratio", share, (latency, _le(edge)))


def _le(edge: float) -> str:
    """As Prometheus' clients write an edge."""
    return "+Inf" if math.isinf(edge) else repr(edge)
