"""What an engine takes of a GPU's memory: the accounting that vLLM does at start-up.

Order in vLLM 0.11 to 0.33 (``v1/worker/gpu_worker.py``): context and communicators, snapshot of
free memory, weights, profiling run, KV cache from what is left of ``ceil(total x utilization)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from vllm_operator.engine.defaults import counts_cuda_graphs
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version
from vllm_operator.models.architecture import Architecture
from vllm_operator.sizing.split.parallelism import Parallelism

from .coefficients import NOTHING, Bytes, coefficient, gibibytes, sum_of
from .device import ANY_DEVICE, Device
from .graphs import graph_bytes
from .kernels import as_loaded
from .kvcache import states_beside_blocks
from .load import Load
from .peak import activation_peak, runner_of
from .weights import bytes_per_rank, input_buffer_bytes


@dataclass(frozen=True)
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
    unexplained: Bytes
    """How far starts with equal settings differ from each other."""
    unlogged: Bytes
    """How far a release that no start was logged of may take more than those before it."""
    system: Bytes = NOTHING
    """What everything else on the node has of a memory that the device shares with it."""

    @cached_property
    def inside_budget(self) -> Bytes:
        """All that the budget pays for beside the KV cache."""
        parts = (self.weights, self.activation_peak, self.cuda_graphs, self.non_torch)
        inside = sum_of((*parts, self.device_total, self.unexplained))
        # What a release takes more, each of its starts does: it adds to how far these differ.
        return Bytes(inside.expected, inside.high + self.unlogged.high)

    def kv_cache(self, total: int, utilization: float) -> tuple[int, int]:
        """KV-cache bytes (expected, low); negative where the rest alone is too much."""
        budget = budget_of(total, utilization)
        inside = self.inside_budget
        return budget - inside.expected, budget - inside.high

    def free_at_start(self, total: int) -> tuple[int, int]:
        """Free bytes (expected, low) when vLLM looks."""
        low = total - self.context.high - self.device_total.high - self.system.high
        return total - self.context.expected - self.system.expected, low

    def startable_budget(self, total: int) -> int:
        """The largest budget that vLLM starts with: it is free then, and graphs find their room as
        far as can be expected."""
        expected, free = self.free_at_start(total)
        graphs = self.cuda_graphs_outside.expected
        # What else a node runs is for its user to know.
        free += self.system.high - self.system.expected
        return min(free, expected - graphs + self.activation_peak.expected)

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
    parallelism: Parallelism,
    load: Load,
    *,
    enforce_eager: bool,
    unexplained_bytes: int = 0,
    device: Device = ANY_DEVICE,
) -> Footprint:
    """Bytes of one rank. ``unexplained_bytes`` of the checkpoint are taken to lie on every rank."""
    runner = runner_of(architecture, version, rocm=device.rocm)
    counted = counts_cuda_graphs(version, runner)
    ranks = parallelism.tensor * parallelism.pipeline
    graphs = NOTHING
    if not enforce_eager:
        graphs = graph_bytes(architecture, version, load, parallelism, device.capability)
    kept = as_loaded(architecture, version, device.capability)
    exact = bytes_per_rank(kept, parallelism, load.element_bytes, version=version)
    exact += input_buffer_bytes(architecture, load.max_num_batched_tokens, load.element_bytes)
    exact += unexplained_bytes
    factor = coefficient(_loaded(architecture, device), version)
    fixed = gibibytes("weights_fixed", version)
    weights = Bytes(
        math.ceil(exact * factor.expected) + fixed.expected,
        math.ceil(exact * factor.high) + fixed.high,
    )
    states = request_states(architecture, load) if runner == 2 else 0
    inside = states if does("counts-all-that-is-taken", version) else 0
    if load.first_engine:
        inside += states_beside_blocks(architecture, parallelism, load.max_num_seqs)
    non_torch = gibibytes(_communication(device, load, version), version, ranks)
    if any(device.system):
        host = gibibytes("unified", version)
        bound = sum_of((non_torch, host)).high
        non_torch = Bytes(non_torch.expected + host.expected, bound)
    unexplained = coefficient("unexplained", version).high * device.memory_bytes
    if device.rocm and architecture.indexed_tokens:
        unexplained += coefficient("sparse_rocm", version).high * device.memory_bytes
    shared = architecture.has_experts and (parallelism.expert or parallelism.data > 1)
    if shared and architecture.recurrent and not enforce_eager:
        unexplained += coefficient("shared_experts_graphs", version).high * device.memory_bytes
    return Footprint(
        weights=weights,
        activation_peak=activation_peak(architecture, version, parallelism, load, device),
        cuda_graphs=graphs if counted else NOTHING,
        non_torch=Bytes(non_torch.expected + inside, non_torch.high + inside),
        context=gibibytes("context", version, ranks),
        cuda_graphs_outside=NOTHING if counted else graphs,
        device_total=gibibytes("device_total", version),
        unexplained=Bytes(0, math.ceil(unexplained)),
        unlogged=gibibytes("unlogged", version),
        system=Bytes(*device.system),
    )


def _loaded(architecture: Architecture, device: Device) -> str:
    if device.rocm:
        return "weights_rocm"
    return "weights" if architecture.quantization.method is None else "weights_quantized"


def _communication(device: Device, load: Load, version: Version) -> str:
    if device.rocm and not does("charges-no-context", version):
        return "non_torch_rocm"
    if load.first_engine:
        return "non_torch_first_engine"
    return "non_torch_linked" if device.linked else "non_torch"


def request_states(architecture: Architecture, load: Load) -> int:
    """Bytes that the second model runner holds for penalties: of each request, how often each token
    came (four bytes) and whether it stands in the prompt (a bit).

    Source: vllm 0.33.0 ``v1/worker/gpu/sample/penalties.py``.
    """
    if architecture.pooling:
        return 0
    return load.max_num_seqs * architecture.vocabulary_size * 33 // 8
