"""What was measured of GPUs and of servers' speed, from the operator's ConfigMap. Edge.

``vllm-operator calibrate`` keeps GPUs there; speeds are learned from the results of ``vllm-operator
benchmark`` when a server is planned anew. Read when the operator begins and at each resync: a
person measures seldom.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from vllm_operator.hardware import measured as gpus
from vllm_operator.hardware.measured import MeasuredGPU
from vllm_operator.sizing.performance import learned
from vllm_operator.sizing.performance.learned import MeasuredSpeed

from .shelf import Shelf

LOG: Final = logging.getLogger("vllm_operator")

KEPT: Final = 500
"""Speeds that are remembered; the oldest go first. About 250 bytes each."""

T = TypeVar("T")


@dataclass(slots=True)
class Measurements:
    """All of them. Without a ``shelf`` there are none, and none is learned."""

    shelf: Shelf | None = None
    _gpus: tuple[MeasuredGPU, ...] = ()
    _speeds: dict[str, MeasuredSpeed] = field(default_factory=dict)

    async def load(self) -> None:
        """Read them (again). What cannot be read is left out."""
        if self.shelf is None:
            return
        kept = await self.shelf.read()
        if kept is None:
            return  # what was known is known still
        self._gpus = tuple(_read(kept, gpus.KEPT_AS, MeasuredGPU.from_json_object))
        speeds = _read(kept, learned.KEPT_AS, MeasuredSpeed.from_json_object)
        self._speeds = {one.key: one for one in speeds}

    def gpus(self) -> tuple[MeasuredGPU, ...]:
        """GPU products, by their keys."""
        return self._gpus

    def speeds(self, model: str) -> tuple[MeasuredSpeed, ...]:
        """How fast servers of a model were, by their keys."""
        return learned.of_model((one for _, one in sorted(self._speeds.items())), model)

    async def learn(self, found: Iterable[MeasuredSpeed]) -> None:
        """Remember speeds; one write for all that are new."""
        if self.shelf is None:
            return
        changed: dict[str, str | None] = {}
        for one in found:
            before = self._speeds.get(one.key)
            if before is None or (before.at <= one.at and before != one):
                self._speeds[one.key] = one
                changed[one.key] = json.dumps(one.to_json_object(), sort_keys=True)
        if not changed:
            return
        for old in sorted(self._speeds, key=lambda key: self._speeds[key].at)[:-KEPT]:
            del self._speeds[old]
            changed[old] = None
        await self.shelf.write(changed)


def _read(
    kept: Mapping[str, str], prefix: str, reads: Callable[[Mapping[str, Any]], T]
) -> Iterable[T]:
    for key, text in sorted(kept.items()):
        if not key.startswith(prefix):
            continue
        try:
            yield reads(json.loads(text))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            extra = {"key": key, "error": str(error)}
            LOG.warning("a measurement cannot be read", extra=extra)
