"""Workloads that nobody chose: drawn by a seed, with the round figures that people write."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from enginesimulator.planned import Server
from enginesimulator.sweep import Outcome, Replays

SERVERS: Final = (
    ("Qwen/Qwen3-4B", ("NVIDIA-L4", "NVIDIA-A10G", "NVIDIA-L40S"), 1),
    ("Qwen/Qwen3-8B", ("NVIDIA-L40S", "NVIDIA-A100-SXM4-40GB", "NVIDIA-H100-80GB-HBM3"), 1),
    ("meta-llama/Llama-3.1-8B-Instruct", ("NVIDIA-A100-SXM4-80GB", "NVIDIA-H200"), 1),
    ("Qwen/Qwen3-14B", ("NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-80GB-HBM3"), 1),
    ("Qwen/Qwen3-32B", ("NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB"), 2),
    ("Qwen/Qwen3-30B-A3B", ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H200"), 1),
    ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H200"), 4),
)
"""Models, GPUs that they are served on, and tensor parallelism."""
LENGTHS: Final[Mapping[str, tuple[float, float, float, float, int]]] = {
    "chat": (400, 0.8, 220, 0.7, 0),
    "agent": (3000, 0.6, 180, 0.8, 1500),
    "rag": (5000, 0.4, 280, 0.5, 0),
    "code": (1200, 0.9, 120, 1.0, 0),
    "reason": (350, 0.7, 2000, 0.6, 0),
}
"""Mean and sigma of prompts and of outputs, and the tokens that all prompts share."""
STARTS: Final = (
    None,
    *((seqs, tokens) for seqs in (8, 32, 128, 256, 512) for tokens in (2048, 8192)),
)
GAPS: Final = (5, 8, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500)
FIRSTS: Final = (200, 300, 500, 1000, 2000, 3000, 5000)
"""Milliseconds of an objective."""
PROBE_MINUTES: Final = 10
CROWD: Final = 400
"""Clients of a pod that are more than it can serve at once."""


def drawn(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Workloads of a seed, the same on each machine.

    Loads are shares of what the server does when clients wait in crowds, objectives are some times
    what one client alone meets: of a part none can be kept, of a part nothing is to be done.
    """
    for number in range(count):
        yield _one(random.Random(f"{seed}/{number}"), f"d{seed}-{number:02d}")


def _one(draw: random.Random, prefix: str) -> dict[str, Any]:
    kind = draw.choice(tuple(LENGTHS))
    model, products, tensor = draw.choice(SERVERS)
    product = draw.choice(products)
    replicas = draw.choice((1, 2, 2, 2, 3, 4))
    start = draw.choice(STARTS)
    prompt, spread, output, spread_out, shared = LENGTHS[kind]
    server: dict[str, Any] = {
        "model": model,
        "gpu": product,
        "tensor": tensor,
        "version": draw.choice(("0.30.0", "0.32.0", "0.32.0", "0.33.0")),
        "replicas": replicas,
    }
    if start is not None:
        seqs, tokens = start
        utilization = draw.choice((0.85, 0.9, 0.9, 0.92))
        limits = {"maxNumSeqs": seqs, "maxNumBatchedTokens": tokens}
        server["start"] = limits | {"gpuMemoryUtilization": utilization}
    workload: dict[str, Any] = {
        "name": f"{prefix}-{kind}-{product.removeprefix('NVIDIA-').split('-')[0].lower()}",
        "minutes": 360,
        "server": server,
        "slo": None,
        "lengths": {
            "prompt": {"mean": prompt, "sigma": spread},
            "output": {"mean": output, "sigma": spread_out},
            "sharedPrefix": shared,
        },
        "balance": _balance(draw, replicas),
        "spareGPUs": tensor,
        "disruption": "Allow" if replicas == 1 else "Forbid",
        "truth": _truth(draw),
    }
    alone, crowd = (_probe(workload, clients * replicas) for clients in (1, CROWD))
    workload["slo"] = _objective(draw, alone, prompt)
    workload["arrivals"] = _arrivals(draw, crowd.tokens / output, replicas)
    return workload


def _truth(draw: random.Random) -> dict[str, Any]:
    truth: dict[str, Any] = {
        name: round(math.exp(draw.gauss(0.0, 0.15)), 2)
        for name in ("overhead", "bandwidth", "compute", "cacheBandwidth")
    }
    if draw.random() < 0.35:
        factor = draw.choice((1.2, 1.4, 1.6))
        truth["bend"] = {"batch": draw.choice((32, 48, 64, 96, 128)), "factor": factor}
    truth["jitter"] = draw.choice((0.02, 0.03, 0.05))
    truth["disturbances"] = []
    if draw.random() < 0.25:
        spell = {"minute": draw.randrange(30, 300), "minutes": draw.choice((10, 20, 40))}
        factor = draw.choice((1.2, 1.5))
        truth["disturbances"] = [spell | {"factor": factor, "pod": draw.choice((None, 0))}]
    return truth


def _balance(draw: random.Random, replicas: int) -> list[float]:
    if replicas == 2 and draw.random() < 0.3:
        return [0.6, 0.4]
    return [round(1 / replicas, 4)] * replicas


def _probe(workload: Mapping[str, Any], clients: int) -> Outcome:
    """What the start does for so many clients."""
    phase = {"minutes": PROBE_MINUTES, "kind": "closed", "clients": clients}
    probe = {**workload, "minutes": PROBE_MINUTES, "arrivals": [phase]}
    server = Server(probe["server"])
    found = Replays(server, probe).full(server.start)
    assert found is not None
    return found


def _objective(draw: random.Random, alone: Outcome, prompt: float) -> dict[str, Any] | None:
    if draw.random() < 0.15:
        return None
    found: dict[str, Any] = {}
    which = draw.choice(("gap", "gap", "first", "both"))
    if which != "first":
        wanted = 1000 * alone.gap * math.exp(draw.uniform(math.log(1.2), math.log(8)))
        found["interTokenLatencyMilliseconds"] = _round(wanted, GAPS)
    if which != "gap":
        found["timeToFirstTokenMilliseconds"] = _round(
            draw.choice((300, 1000, 3000)) * (1 + prompt / 5000), FIRSTS
        )
    return found | {"percentile": draw.choice((90, 95, 95, 99))}


def _round(wanted: float, figures: Sequence[int]) -> int:
    return min(figures, key=lambda one: abs(math.log(one / wanted)))


def _arrivals(draw: random.Random, capacity: float, replicas: int) -> list[dict[str, Any]]:
    """``capacity`` in requests a second."""
    kind = draw.choice(("steady", "steady", "closed", "day", "shift"))
    if kind == "closed":
        clients = replicas * draw.choice((4, 16, 48, 96, 200))
        return [{"minutes": 360, "kind": "closed", "clients": clients}]
    share = draw.uniform(0.15, 1.1)
    shares = {"steady": (1.0,), "day": (0.3, 0.7, 1.0, 1.0, 0.7, 0.3), "shift": (1.0, 0.6)}[kind]
    return [
        {
            "minutes": 360 // len(shares),
            "kind": "poisson",
            "requestsPerSecond": float(f"{share * part * capacity:.3g}"),
        }
        for part in shares
    ]
