"""The names under which each vLLM version exports what the operator reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from .tables import rows_for
from .versions import Version


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as ``/metrics`` shows it."""

    name: str
    """With the ``_total`` of counters, without the ``_bucket``, ``_sum``, ``_count`` of
    histograms."""
    type: str
    """``gauge``, ``counter`` or ``histogram``."""


@lru_cache(maxsize=64)
def metrics(version: Version) -> Mapping[str, Metric]:
    """What ``metrics.csv`` names, by meaning; one name for each, the newer where both exist."""
    return {
        row["meaning"]: Metric(row["metric"], row["type"])
        for row in rows_for("metrics.csv", version)
    }


@lru_cache(maxsize=256)
def edge_above(meaning: str, seconds: float, version: Version) -> float:
    """The least upper edge of a latency's buckets (``latency_edges.csv``) that is not below
    ``seconds``, in seconds; infinite where none is.

    ``meaning`` is ``timeToFirstToken`` or ``interTokenLatency``. What is slower than that edge is
    surely slower than ``seconds``.
    """
    edges = (
        float(edge)
        for row in rows_for("latency_edges.csv", version)
        if row["meaning"] == meaning
        for edge in row["seconds"].split()
    )
    return min((edge for edge in edges if edge >= seconds), default=math.inf)
