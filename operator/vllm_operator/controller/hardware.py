"""GPU products that were measured, from the operator's ConfigMap. Edge.

Read when the operator begins and at each resync: a person measures them seldom.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Final

from vllm_operator.hardware.measured import KEPT_AS, MeasuredGPU

from .shelf import Shelf

LOG: Final = logging.getLogger("vllm_operator")


@dataclass(slots=True)
class MeasuredHardware:
    """The measurements. Without a ``shelf`` there are none."""

    shelf: Shelf | None = None
    _known: tuple[MeasuredGPU, ...] = ()

    async def load(self) -> None:
        """Read them (again). What cannot be read is left out."""
        if self.shelf is None:
            return
        found = []
        for key, text in sorted((await self.shelf.read()).items()):
            if not key.startswith(KEPT_AS):
                continue
            try:
                found.append(MeasuredGPU.from_json_object(json.loads(text)))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                LOG.warning(
                    "a measured GPU cannot be read", extra={"key": key, "error": str(error)}
                )
        self._known = tuple(found)

    def known(self) -> tuple[MeasuredGPU, ...]:
        """All of them, by their keys."""
        return self._known
