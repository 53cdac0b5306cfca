"""Results that were never measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from support.builders import make_plan, make_server
from vllm_operator.api.plan import Plan
from vllm_operator.benchmark.job import about
from vllm_operator.benchmark.load import Load, Point
from vllm_operator.benchmark.results import Measured, Result

LOAD = Load(100, 20)


def run(scale: float = 1.0, completed: int = 40) -> dict[str, float | None]:
    """Figures of a run of a server that is so many times as fast."""
    found: dict[str, float | None] = {
        "duration": 10 / scale,
        "completed": completed,
        "output_throughput": 80 * scale,
        "request_throughput": 4 * scale,
    }
    for latency, milliseconds in (("ttft", 50), ("tpot", 10), ("itl", 10), ("e2el", 240)):
        for kind, times in (("mean", 1), ("p50", 0.9), ("p90", 2), ("p99", 3)):
            found[f"{kind}_{latency}_ms"] = milliseconds * times / scale
    return found


def measured(
    *scales: float, concurrency: int | None = 8, rate: float | None = None, completed: int = 40
) -> Measured:
    """A load with a run for each of those speeds."""
    runs = tuple(run(scale, completed) for scale in scales)
    return Measured(Point(40, concurrency, rate), runs)


def result(
    name: str = "20260101-000000",
    points: Sequence[Measured] = (),
    load: Load = LOAD,
    plan: Plan | None = None,
    **spec: Any,
) -> Result:
    """A result of the server `qwen`."""
    shown = points or [measured(1.0, 1.01, 0.99)]
    return about(
        make_server(**spec), plan or make_plan(), name, "2026-01-01T00:00:00Z", load, shown
    )
