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
from vllm_operator.models.shapes import AttentionCache, Layer

from .coefficients import NOTHING, Bytes, coefficient, gibibytes
from .parallelism import Parallelism
from .weights import bytes_per_rank


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


@dataclass(frozen=True, slots=True)
class Load:
    """What the profiling run works on."""

    max_num_seqs: int
    max_num_batched_tokens: int
    element_bytes: int
    """Bytes of an element of weights and activations."""


def footprint(
    architecture: Architecture,
    version: Version,
    parallelism: Parallelism,
    load: Load,
    *,
    enforce_eager: bool,
    unexplained_bytes: int = 0,
) -> Footprint:
    """Bytes of one rank. ``unexplained_bytes`` of the checkpoint are taken to lie on every rank."""
    counted = counts_cuda_graphs(version)
    ranks = parallelism.tensor
    graphs = NOTHING if enforce_eager else gibibytes("graphs", version, ranks)
    exact = bytes_per_rank(architecture, parallelism, load.element_bytes) + unexplained_bytes
    factor, fixed = coefficient("weights", version), gibibytes("weights_fixed", version)
    return Footprint(
        weights=Bytes(
            math.ceil(exact * factor.expected) + fixed.expected,
            math.ceil(exact * factor.high) + fixed.high,
        ),
        activation_peak=activation_peak(architecture, version, parallelism, load),
        cuda_graphs=graphs if counted else NOTHING,
        non_torch=gibibytes("non_torch", version, ranks),
        context=gibibytes("context", version, ranks),
        cuda_graphs_outside=NOTHING if counted else graphs,
        device_total=gibibytes("device_total", version),
    )


def sampler_logits(architecture: Architecture, load: Load) -> int:
    """Logits that the profiling run samples from: one row a sequence, on every rank."""
    return min(load.max_num_seqs, load.max_num_batched_tokens) * architecture.vocabulary_size


def layer_bytes(layer: Layer, hidden: int, parallelism: Parallelism, load: Load) -> int:
    """Largest transient of one layer: its MLP's, its experts' or its attention's.

    Source: vllm 0.33.0 ``layers/fused_moe/modular_kernel.py`` (workspaces of the experts) and the
    models' forward passes: residual and hidden state, projections, the activation's output.
    """
    ranks = parallelism.tensor
    sizes = [2 * hidden + 3 * layer.intermediate // ranks]
    if layer.experts_per_token:
        width = layer.expert_intermediate
        if not parallelism.expert:
            width = width // parallelism.expert_ranks
        chosen = layer.experts_per_token
        sizes.append(3 * hidden + chosen * (max(width, hidden) + max(2 * width, hidden)))
    if layer.query_heads:
        heads = layer.query_heads // ranks
        key_value = 0
        if isinstance(layer.cache, AttentionCache):
            groups = max(1, layer.cache.heads // ranks)
            key_value = groups * (layer.cache.key_dim + layer.cache.value_dim)
        queries = heads * (layer.query_dim + layer.value_dim)
        sizes.append(2 * hidden + queries + key_value)
    return load.element_bytes * load.max_num_batched_tokens * max(sizes)


def forward_bytes(architecture: Architecture, parallelism: Parallelism, load: Load) -> int:
    """Largest transient of one forward pass over all tokens of a step."""
    return max(
        layer_bytes(kind, architecture.hidden_size, parallelism, load)
        for kind in architecture.kinds
    )


def tower_bytes(architecture: Architecture, load: Load) -> int:
    """Transient of encoding the largest picture: the tower's widest layer over its patches."""
    width = 4 * architecture.tower_hidden + 2 * architecture.tower_intermediate
    return load.element_bytes * architecture.tower_tokens * width


def activation_peak(
    architecture: Architecture, version: Version, parallelism: Parallelism, load: Load
) -> Bytes:
    """Largest transient of the profiling run: the forward pass, the sampler or the towers."""
    parts = (
        (coefficient("forward", version), forward_bytes(architecture, parallelism, load)),
        (coefficient("sampler", version), sampler_logits(architecture, load)),
        (coefficient("tower", version), tower_bytes(architecture, load)),
    )
    fixed = gibibytes("transient_fixed", version)
    return Bytes(
        math.ceil(max(factor.expected * size for factor, size in parts)) + fixed.expected,
        math.ceil(max(factor.high * size for factor, size in parts)) + fixed.high,
    )


def sampler_dominates(
    architecture: Architecture, version: Version, parallelism: Parallelism, load: Load
) -> bool:
    """Whether fewer sequences, rather than fewer tokens a step, would lower the peak."""
    forward = forward_bytes(architecture, parallelism, load)
    logits = sampler_logits(architecture, load)
    return (
        logits * coefficient("sampler", version).high
        >= forward * coefficient("forward", version).high
    )
