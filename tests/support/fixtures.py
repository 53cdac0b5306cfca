"""Types of the fixtures that several test folders share."""

from __future__ import annotations

from typing import Protocol

from .operating import OperatorProcess
from .world import World


class StartOperator(Protocol):
    """Starts an operator in a world's namespace, with chart values and flags."""

    def __call__(
        self, world: World, *, chart: dict[str, object] | None = None, **options: object
    ) -> OperatorProcess:
        """Start it and wait until it is ready."""
