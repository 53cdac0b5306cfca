"""Devices whose memory is the system's too (``unified.csv``): what the system has of it."""

from __future__ import annotations

from functools import lru_cache

from vllm_operator import datafiles
from vllm_operator.api.quantity import GIBIBYTE

from . import catalogue


@lru_cache(maxsize=256)
def system_bytes(product: str) -> tuple[int, int]:
    """Bytes of a device's memory that all else on the node has when an engine starts: the best
    estimate, and the most. Zeros for a device with memory of its own."""
    for row in datafiles.rows(__package__, "unified.csv"):
        if catalogue.normalised(row["product"]) == catalogue.normalised(product):
            expected, most = float(row["expected_gib"]), float(row["most_gib"])
            return int(expected * GIBIBYTE), int(most * GIBIBYTE)
    return 0, 0
