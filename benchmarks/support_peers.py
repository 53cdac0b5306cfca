"""The published formulas of other planners for the memory that is left for the KV cache.

Each is a pure function of a start and a handful of the model's facts, in GiB of one GPU. As their
authors do, they count with a GPU's nominal memory; each is given the utilisation of the start
(whatever its own constant is) and the weights as vLLM measured them, so what differs is what they
leave for everything else. Read from the projects' public sources in 2026; where one scales weights
or names constants, they stand here with its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from support_starts import LoggedStart

GIBIBYTE: Final = 1024**3

NOMINAL_GIB: Final[Mapping[str, float]] = {
    "H100 NVL": 94,
    "GH200": 96,
    "H100": 80,
    "H200": 141,
    "H20": 96,
    "B200": 180,
    "A100": 80,
    "L40S": 48,
    "L40": 48,
    "L4": 24,
    "A10G": 24,
    "A10": 24,
    "A40": 48,
    "RTX A6000": 48,
    "RTX A5000": 24,
    "V100": 32,
    "T4": 16,
    "RTX PRO 6000": 96,
    "RTX 5090": 32,
    "RTX 5080": 16,
    "RTX 4090": 24,
    "RTX 4080": 16,
    "RTX 3090": 24,
    "RX 9070 XT": 16,
    "MI300X": 192,
    "MI300A": 128,
    "GB10": 128,
}
"""What is printed on the box."""


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What the formulas read of a model."""

    family: str
    """``llama``, ``qwen``, ``deepseek``, ``kimi``, ``step`` or ``other``, by the architecture."""
    hidden_size: int
    attention_width: int
    """Query heads times the dimension of a head."""
    experts: int
    experts_per_token: int
    multimodal: bool


@dataclass(frozen=True, slots=True)
class Peer:
    """A planner and its formula."""

    name: str
    forecast: Callable[[LoggedStart, PeerFacts, float], float]
    """From a start, facts and the weights of one GPU in GiB to the KV cache of one GPU in GiB."""


def facts_of(architecture: Any) -> PeerFacts:
    """The facts, from ``models.shapes.Architecture``: the only function here that knows it."""
    layers = getattr(architecture, "kinds", ())
    query_dim = max((layer.query_dim for layer in layers), default=0)
    name = architecture.name.casefold()
    known = ("llama", "qwen", "deepseek", "kimi", "step")
    return PeerFacts(
        family=next((family for family in known if family in name), "other"),
        hidden_size=architecture.hidden_size,
        attention_width=architecture.attention_heads
        * (query_dim or getattr(architecture, "head_dim", 0)),
        experts=getattr(architecture, "routed_experts", 0),
        experts_per_token=max((layer.experts_per_token for layer in layers), default=0),
        multimodal=getattr(architecture, "multimodal", False),
    )


def nominal_gib(start: LoggedStart) -> float:
    """The GPU's memory as its maker counts it; what is reported, where it is no known product."""
    if start.gpu_family in {"A100", "V100"}:
        sizes = (16, 32) if start.gpu_family == "V100" else (40, 80)
        small = (start.gpu_memory_gib or sizes[1]) <= sizes[0] or f"{sizes[0]}GB" in start.gpu
        return sizes[0] if small else sizes[1]
    return NOMINAL_GIB.get(start.gpu_family, start.gpu_memory_gib or 0.0)


def kaito(start: LoggedStart, facts: PeerFacts, weights: float) -> float:
    """KAITO: 2.3 GiB, and 1.02 x 1.05 of the weights (nodesestimator/estimator.go)."""
    return start.utilization * nominal_gib(start) - 2.3 - 1.02 * 1.05 * weights


def aiconfigurator_native(start: LoggedStart, facts: PeerFacts, weights: float) -> float:
    """aiconfigurator, native estimate: activations by family and ranks (sdk/memory.py)."""
    column = {1: 0, 2: 1, 4: 2}.get(start.tensor, 3)
    routed = facts.experts > 0 or facts.family in {"deepseek", "kimi"}
    if routed:
        factor = (22.0, 13.0, 10.0, 10.0)[column]
    elif facts.family in {"llama", "qwen"}:
        factor = (11.0, 6.5, 5.0, 5.0)[column]
    else:
        factor = (10.0, 6.0, 5.0, 5.0)[column]
    tokens = start.max_num_batched_tokens
    activations = 2 * tokens * facts.attention_width * factor
    if routed and facts.family in {"deepseek", "kimi", "step"}:
        per_expert = tokens * facts.hidden_size * start.data / 128 * 4
        activations += per_expert * facts.experts * facts.experts_per_token
    overhead = max(activations / GIBIBYTE, 70 / 1024)
    communication = (0, 342, 392, 392)[column] / 1024
    used = weights + overhead + communication + 3.5
    return start.utilization * nominal_gib(start) - used


def aiconfigurator_naive(start: LoggedStart, facts: PeerFacts, weights: float) -> float:
    """aiconfigurator, naive estimate: 0.8 of what the weights leave, whatever the utilisation."""
    return 0.8 * (nominal_gib(start) - weights)


def llm_d(start: LoggedStart, facts: PeerFacts, weights: float) -> float:
    """llm-d's capacity planner: constants by family, activations once a replica."""
    gpus = start.tensor * start.pipeline
    if facts.multimodal:
        activations = 2.5
    elif facts.experts:
        activations = 8.0
    else:
        activations = {"llama": 4.8, "qwen": 5.6}.get(facts.family, 5.5)
    outside = 0.15 if start.tensor == 1 else 0.6
    return start.utilization * nominal_gib(start) - weights - activations / gpus - outside


def llm_optimizer(start: LoggedStart, facts: PeerFacts, weights: float) -> float:
    """BentoML's llm-optimizer: the weights, and nothing else."""
    return start.utilization * nominal_gib(start) - weights


def vllm_optimizer(start: LoggedStart, facts: PeerFacts, weights: float) -> float:
    """vllm-optimizer: a reserve on each GPU that grows with their number."""
    reserve = {1: 6.0, 2: 10.0, 4: 16.0}.get(start.tensor, 24.0)
    return start.utilization * nominal_gib(start) - weights - reserve


PEERS: Final = (
    Peer("KAITO", kaito),
    Peer("aiconfigurator native", aiconfigurator_native),
    Peer("aiconfigurator naive", aiconfigurator_naive),
    Peer("llm-d", llm_d),
    Peer("llm-optimizer", llm_optimizer),
    Peer("vllm-optimizer", vllm_optimizer),
)
