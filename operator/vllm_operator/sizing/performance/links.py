"""What joins the ranks of a server: links inside a node, and the network between nodes."""

from __future__ import annotations

from vllm_operator.hardware.performance import GPUPerformance
from vllm_operator.sizing.split.parallelism import Parallelism

from .coefficients import Coefficients


class Links:
    """Bandwidths (bytes per second) and latencies (seconds) between the ranks of ``split``.

    Ranks are numbered data x pipeline x tensor, tensor innermost, and fill one node after another
    (vllm 0.33.0 ``distributed/parallel_state.py``, ``initialize_model_parallel``). Where a group
    crosses nodes, the slower of link and network bounds all of it.
    """

    def __init__(
        self, split: Parallelism, gpu: GPUPerformance, found: Coefficients, nodes: int
    ) -> None:
        self.split = split
        self._per_node = max(1, split.gpus // nodes)
        self._found = found
        self._link = gpu.link_bandwidth * found.link_efficiency
        network = min(gpu.link_bandwidth, found.network_bandwidth)
        self._network = network * found.link_efficiency

    def _bandwidth(self, *, crossing: bool) -> float:
        return self._network if crossing else self._link

    def _latency(self, *, crossing: bool) -> float:
        return self._found.all_reduce_seconds + crossing * self._found.network_seconds

    @property
    def _tensor_crosses(self) -> bool:
        return self.split.tensor > self._per_node

    @property
    def _experts_cross(self) -> bool:
        return self.split.gpus > self._per_node

    @property
    def tensor_bandwidth(self) -> float:
        """Of an all-reduce over the tensor-parallel ranks."""
        return self._bandwidth(crossing=self._tensor_crosses)

    @property
    def tensor_latency(self) -> float:
        """Of an all-reduce over the tensor-parallel ranks."""
        return self._latency(crossing=self._tensor_crosses)

    @property
    def expert_bandwidth(self) -> float:
        """Of sending tokens to experts and back."""
        return self._bandwidth(crossing=self._experts_cross)

    @property
    def expert_latency(self) -> float:
        """Of sending tokens to experts and back."""
        return self._latency(crossing=self._experts_cross)

    def all_reduce_bytes(self, size: float) -> float:
        """Bytes over one rank's link for an all-reduce of ``size`` bytes over the tensor-parallel
        ranks: 2 (R-1)/R of them (ring; Patarasuk and Yuan, 2009)."""
        return 2 * (self.split.tensor - 1) / self.split.tensor * size

    def dispatch_bytes(self, size: float) -> float:
        """Bytes over one rank's link for ``size`` bytes of hidden state that go to the experts of
        all data-parallel ranks and back.

        An all-gather and a reduce-scatter of (R-1)/R each, over the data-parallel ranks or, with
        expert parallelism and tensor parallelism, over both (vllm 0.33.0
        ``distributed/device_communicators/all2all.py``, ``AgRsAll2AllManager``, the default from
        0.11.0 on, and ``use_sequence_parallel_moe`` of ``config/parallel.py``).
        """
        split = self.split
        ranks = split.expert_ranks if split.expert and split.tensor > 1 else split.data
        return 2 * (ranks - 1) / ranks * size

    def between_nodes(self, stage: int) -> bool:
        """Whether what this stage receives comes over the network."""
        before = (stage * self.split.tensor - 1) // self._per_node
        return stage > 0 and before != stage * self.split.tensor // self._per_node

    def hand_over_seconds(self, size: float, *, crossing: bool) -> float:
        """Seconds for ``size`` bytes from a stage to the next, in the same node or another.

        Each tensor-parallel rank sends its part, and the receiving ranks gather the whole from one
        another (vllm 0.33.0 ``v1/worker/gpu_worker.py``, ``isend_tensor_dict`` with
        ``all_gather_group``).
        """
        ranks = self.split.tensor
        gathered = (ranks - 1) / ranks * size / self.tensor_bandwidth
        return size / ranks / self._bandwidth(crossing=crossing) + gathered
