"""How long a start takes and may take.

``seconds = process + ranks + bytes / rate + profile + layers x (compile + capture)``, each from
``startup.csv``: the rate is that of what the weights are read from, the last term is left out with
``enforceEager``. A compile cache on a volume makes later starts shorter, which is not counted: the
budget is for the first. The budget is four times the expected time and at least 20 minutes, so that
a link of 50 MB/s is not mistaken for a hang. ``spec.rollout.startupBudgetSeconds`` replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from vllm_operator import datafiles
from vllm_operator.api.plan import Startup
from vllm_operator.api.v1alpha1 import VLLMServerSpec
from vllm_operator.engine.tables import holds
from vllm_operator.engine.versions import Version
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.asked.storage import volume_of
from vllm_operator.sizing.layout.search import Layout

PATIENCE: Final = 4.0
SHORTEST_BUDGET_SECONDS: Final = 1200.0
LONGEST_BUDGET_SECONDS: Final = 86_400.0
MEGABYTE: Final = 1e6


def fingerprint() -> str:
    """Hash of the figures: a plan made with others may come out differently."""
    return datafiles.fingerprint(__package__, "startup.csv")


@lru_cache(maxsize=64)
def figures(version: Version) -> Mapping[str, float]:
    """``startup.csv`` for a version: seconds, and MB/s, by name."""
    rows = datafiles.rows(__package__, "startup.csv")
    return {row["name"]: float(row["value"]) for row in rows if holds(row, version)}


def startup(asked: Asked, layout: Layout) -> Startup:
    """Expected seconds, and the budget (``spec.rollout.startupBudgetSeconds`` where it is set)."""
    seconds = expected_seconds(asked, layout)
    rollout = asked.spec.rollout
    pinned = rollout.startup_budget_seconds if rollout else None
    budget = min(LONGEST_BUDGET_SECONDS, max(SHORTEST_BUDGET_SECONDS, PATIENCE * seconds))
    return Startup(
        seconds=round(seconds, 1),
        budget_seconds=float(pinned) if pinned is not None else float(round(budget)),
    )


def expected_seconds(asked: Asked, layout: Layout) -> float:
    """Seconds from the start of the container to the first answer of ``/health``."""
    figure = figures(asked.version)
    division = layout.division
    seconds = figure["process"] + figure["profile"]
    seconds += figure["ranks"] * (division.gpus // division.nodes - 1)
    rate = figure[_rate(asked.spec)] * MEGABYTE
    seconds += asked.weight_bytes / rate
    if asked.engine.enforce_eager is not True:
        layers = asked.architecture.layers / division.parallelism.pipeline
        seconds += layers * (figure["compile"] + figure["capture"])
    return seconds


def _rate(spec: VLLMServerSpec) -> str:
    volume = volume_of(spec)
    if spec.model.is_folder:
        return "claim"  # of the image, or of any volume: nobody knows
    if not volume.serves:
        return "download"
    return "claim" if volume.kind == "PersistentVolumeClaim" else "node"
