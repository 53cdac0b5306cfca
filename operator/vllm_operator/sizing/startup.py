"""How long a start takes and may take.

``seconds = 90 + bytes / rate (+ 60 for compilation and graph capture)``, where rate is 200 MB/s for
a checkpoint that is downloaded and 500 MB/s for one that lies on a volume: the container, the
imports and the profiling run take about 90 s whatever the model. The budget is four times that and
at least 20 minutes, so that a link of 50 MB/s is not mistaken for a hang.
"""

from __future__ import annotations

from typing import Final

from vllm_operator.api.plan import Startup

from .request import Request

FIXED_SECONDS: Final = 90.0
COMPILE_SECONDS: Final = 60.0
DOWNLOAD_BYTES_PER_SECOND: Final = 200e6
VOLUME_BYTES_PER_SECOND: Final = 500e6
PATIENCE: Final = 4.0
SHORTEST_BUDGET_SECONDS: Final = 1200.0
LONGEST_BUDGET_SECONDS: Final = 86_400.0


def serves_from_volume(request: Request) -> bool:
    """Whether the checkpoint lies on a volume and is served from there."""
    storage = request.spec.model.storage
    claim = storage.persistent_volume_claim if storage else None
    return claim is not None and claim.mode == "Model"


def startup(request: Request) -> Startup:
    """Expected seconds, and the budget (``spec.rollout.startupBudgetSeconds`` where it is set)."""
    volume = serves_from_volume(request)
    rate = VOLUME_BYTES_PER_SECOND if volume else DOWNLOAD_BYTES_PER_SECOND
    seconds = FIXED_SECONDS + request.weight_bytes / rate
    if request.engine.enforce_eager is not True:
        seconds += COMPILE_SECONDS
    rollout = request.spec.rollout
    pinned = rollout.startup_budget_seconds if rollout else None
    budget = min(LONGEST_BUDGET_SECONDS, max(SHORTEST_BUDGET_SECONDS, PATIENCE * seconds))
    return Startup(
        seconds=round(seconds, 1),
        budget_seconds=float(pinned) if pinned is not None else float(round(budget)),
    )
