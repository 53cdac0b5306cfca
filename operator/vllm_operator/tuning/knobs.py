"""The flags that are tuned."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Knobs:
    """A setting of an engine."""

    max_num_seqs: int
    """``--max-num-seqs``: what memory and CUDA graphs are laid out for."""
    max_num_batched_tokens: int
    """``--max-num-batched-tokens``."""
    gpu_memory_utilization: float
    """``--gpu-memory-utilization``."""
    max_num_active_seqs: int | None = None
    """``--max-num-active-seqs``, where the version has it and it is set: admission alone."""

    @property
    def cap(self) -> int:
        """The largest number of requests that run at once."""
        active = self.max_num_active_seqs
        return self.max_num_seqs if active is None else min(active, self.max_num_seqs)


@dataclass(frozen=True, slots=True)
class Objective:
    """Latencies to keep, in seconds, at a percentile; ``spec.workload.slo``."""

    time_to_first_token: float | None = None
    inter_token_latency: float | None = None
    percentile: float = 95.0

    @property
    def share(self) -> float:
        """Share of all samples that must be within the objective."""
        return self.percentile / 100.0
