"""What an engine takes of a GPU's memory: the accounting that vLLM does at start-up.

Order in vLLM 0.11 to 0.33 (``v1/worker/gpu_worker.py``): context and communicators, snapshot of
free memory, weights, profiling run, KV cache from what is left of ``ceil(total x utilization)``.
The closed forms of the profiling run are ours, from the code; ``coefficients.csv`` fits them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vllm_operator.engine.defaults import counts_cuda_graphs
from vllm_operator.engine.versions import Version
from vllm_operator.models.architecture import Architecture

from .coefficients import NOTHING, Bytes, coefficient, gibibytes
from .weights import bytes_per_rank, key_value_heads_per_rank


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one rank."""

    weights: Bytes
    activation_peak: Bytes
    cuda_graphs: Bytes
    """Zero where the budget does not pay for them."""
    non_torch: Bytes
    context: Bytes
    """CUDA context and communicators, taken before vLLM looks at the free memory."""
    cuda_graphs_outside: Bytes
    """CUDA graphs where the budget does not pay for them."""
    device_total: Bytes
    """How far the device's total may lie under the catalogue's figure."""

    @property
    def inside_budget(self) -> Bytes:
        """All that the budget pays for beside the KV cache."""
        parts = self.weights + self.activation_peak + self.cuda_graphs + self.non_torch
        return Bytes(parts.expected, parts.high + self.device_total.high)

    def kv_cache(self, total: int, utilization: float) -> tuple[int, int]:
        """KV-cache bytes (expected, low); negative where the rest alone is too much."""
        budget = budget_of(total, utilization)
        inside = self.inside_budget
        return budget - inside.expected, budget - inside.high

    def free_at_start(self, total: int) -> tuple[int, int]:
        """Free bytes (expected, low) when vLLM looks."""
        low = total - self.context.high - self.device_total.high
        return total - self.context.expected, low

    def largest_budget(self, total: int) -> int:
        """The largest budget that vLLM surely starts with and can keep.

        Graphs that the budget does not pay for are captured last, in what lies outside the budget
        and in what the profiling run's peak has left behind.
        """
        _, free = self.free_at_start(total)
        return min(free, free - self.cuda_graphs_outside.high + self.activation_peak.expected)


def budget_of(total: int, utilization: float) -> int:
    """What the engine may take: vLLM's ``ceil(total x utilization)`` (``v1/worker/utils.py``)."""
    return math.ceil(total * utilization)


def footprint(
    architecture: Architecture,
    version: Version,
    *,
    tensor_parallel: int,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    element_bytes: int,
    enforce_eager: bool,
    unexplained_bytes: int = 0,
) -> Footprint:
    """Bytes of one rank. ``unexplained_bytes`` of the checkpoint are taken to lie on every rank."""
    counted = counts_cuda_graphs(version)
    graphs = NOTHING if enforce_eager else gibibytes("graphs", version, tensor_parallel)
    return Footprint(
        weights=_weights(architecture, version, tensor_parallel, element_bytes, unexplained_bytes),
        activation_peak=activation_peak(
            architecture,
            version,
            tensor_parallel=tensor_parallel,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            element_bytes=element_bytes,
        ),
        cuda_graphs=graphs if counted else NOTHING,
        non_torch=gibibytes("non_torch", version, tensor_parallel),
        context=gibibytes("context", version, tensor_parallel),
        cuda_graphs_outside=NOTHING if counted else graphs,
        device_total=gibibytes("device_total", version),
    )


def _weights(
    architecture: Architecture,
    version: Version,
    tensor_parallel: int,
    element_bytes: int,
    unexplained_bytes: int,
) -> Bytes:
    exact = bytes_per_rank(architecture, tensor_parallel, element_bytes) + unexplained_bytes
    factor = coefficient("weights", version)
    fixed = gibibytes("weights_fixed", version)
    return Bytes(exact, math.ceil(exact * factor.high) + fixed.high)


def sampler_logits(architecture: Architecture, max_num_seqs: int, tokens: int) -> int:
    """Logits that the profiling run samples from: one row a sequence, on every rank."""
    return min(max_num_seqs, tokens) * architecture.vocabulary_size


def forward_bytes(
    architecture: Architecture, tensor_parallel: int, tokens: int, element_bytes: int
) -> int:
    """Largest transient of one forward pass over ``tokens``: the MLP's or the attention's."""
    a = architecture
    wide = 3 if a.gated_mlp else 2
    mlp = 2 * a.hidden_size + wide * a.intermediate_size // tensor_parallel
    heads = a.attention_heads // tensor_parallel
    key_value = key_value_heads_per_rank(a, tensor_parallel)
    attention = 2 * a.hidden_size + (2 * heads + 2 * key_value) * a.head_dim
    return element_bytes * tokens * max(mlp, attention)


def activation_peak(
    architecture: Architecture,
    version: Version,
    *,
    tensor_parallel: int,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    element_bytes: int,
) -> Bytes:
    """Largest transient of the profiling run: the forward pass or the sampler, the larger one."""
    forward = forward_bytes(architecture, tensor_parallel, max_num_batched_tokens, element_bytes)
    logits = sampler_logits(architecture, max_num_seqs, max_num_batched_tokens)
    of_forward = coefficient("forward", version)
    of_sampler = coefficient("sampler", version)
    fixed = gibibytes("transient_fixed", version)
    return Bytes(
        math.ceil(max(forward * of_forward.expected, logits * of_sampler.expected))
        + fixed.expected,
        math.ceil(max(forward * of_forward.high, logits * of_sampler.high)) + fixed.high,
    )


def sampler_dominates(
    architecture: Architecture,
    version: Version,
    *,
    tensor_parallel: int,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    element_bytes: int,
) -> bool:
    """Whether fewer sequences, rather than fewer tokens a step, would lower the peak."""
    forward = forward_bytes(architecture, tensor_parallel, max_num_batched_tokens, element_bytes)
    logits = sampler_logits(architecture, max_num_seqs, max_num_batched_tokens)
    return (
        logits * coefficient("sampler", version).high
        >= forward * coefficient("forward", version).high
    )
