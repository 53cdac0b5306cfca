"""A small engine and a small server to simulate: figures that can be followed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from enginesimulator import state as at
from enginesimulator.engine import Batch, Engine, Request, Setting
from enginesimulator.metrics import Buckets
from enginesimulator.steps import Hardware, Truth
from vllm_operator.sizing.performance.step import StageTimes, Times

STAGE = StageTimes(
    linears=(),
    experts=(),
    attention=((0.0, 0.0, 0.0, None, 0.0),),
    head=None,
    token_seconds=0.0,
    shared_seconds=0.0,
    fixed_seconds=1.0,
    sample_seconds=0.0,
)
TIMES = Times(stages=((STAGE, 1),), host_seconds=0.0, asynchronous=True, ranks=1)
A_SECOND = Hardware(graphs=TIMES, eager=TIMES, largest_graph=0)
"""Every step takes a second."""


def hardware(**parts: Any) -> Hardware:
    """Steps of other parts, without CUDA graphs."""
    times = replace(TIMES, stages=((replace(STAGE, **parts), 1),))
    return Hardware(graphs=times, eager=times, largest_graph=0)


def engine(
    seqs: int = 8,
    tokens: int = 64,
    blocks: int = 100,
    *,
    steps: Hardware = A_SECOND,
    truth: Truth | None = None,
    limits: Mapping[str, Any] | None = None,
    gaps: Sequence[float] = (),
    **options: Any,
) -> Engine:
    """An engine of blocks of 16 tokens that is scraped every second unless told otherwise."""
    options.setdefault("every", 1.0)
    setting = Setting(seqs, tokens, blocks, **(limits or {}))
    return Engine(setting, steps, truth or Truth(), Buckets.of(4096, gaps), **options)


def send(engine: Engine, *requests: tuple[float, int, int]) -> None:
    """Requests as they are sent: when, prompt and output."""
    engine.send(Batch.of([Request(*one) for one in requests], engine.request_seconds))


def count(engine: Engine, which: int) -> int:
    """One of the figures that ``state`` names."""
    return engine.count(which)


def observed(engine: Engine, which: int) -> tuple[float, float]:
    """Count and sum of a histogram."""
    return engine.histogram(which)


GENERATED, PROMPTS, CACHED = at.GENERATED, at.PROMPT_TOKENS, at.CACHED_TOKENS

WORKLOAD: dict[str, Any] = {
    "name": "small",
    "minutes": 12,
    "server": {
        "model": "Qwen/Qwen3-8B",
        "gpu": "NVIDIA-H100-80GB-HBM3",
        "tensor": 1,
        "version": "0.32.0",
        "replicas": 2,
        "start": {"maxNumSeqs": 64, "maxNumBatchedTokens": 2048, "gpuMemoryUtilization": 0.9},
    },
    "slo": {"interTokenLatencyMilliseconds": 40, "percentile": 95},
    "lengths": {
        "prompt": {"mean": 200, "sigma": 0.5},
        "output": {"mean": 50, "sigma": 0.5},
        "sharedPrefix": 0,
    },
    "arrivals": [{"minutes": 12, "kind": "poisson", "requestsPerSecond": 1.0}],
    "balance": [0.5, 0.5],
    "spareGPUs": 1,
    "disruption": "Forbid",
    "truth": {"jitter": 0.03},
}


def workload(**changes: Any) -> dict[str, Any]:
    """A quiet quarter of an hour of two replicas, with changes."""
    return {**WORKLOAD, **changes}
