"""Remembers what was learned of each kind of server's curve, in the operator's ConfigMap. Edge.

A server that is made anew, and an operator that starts again, begin with what was learned of the
kind. Written where tuning goes from one state to another, never at a look that only agrees.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from vllm_operator.api.conditions import timestamp
from vllm_operator.tuning.choice import INTERVALS
from vllm_operator.tuning.curve import KEPT_AS, UNSEEN, Posterior, Prior

from .shelf import Shelf

LOG: Final = logging.getLogger("vllm_operator")

KEPT: Final = 300
"""Kinds that are remembered; the oldest go first. About 900 bytes each."""


@dataclass(slots=True)
class Curves:
    """Posteriors by key of the kind. Without a ``shelf`` they last as long as the process."""

    clock: Callable[[], datetime]
    shelf: Shelf | None = None
    _known: dict[str, tuple[str, Posterior]] = field(default_factory=dict)
    """By key: when it was learned, and what."""
    _unwritten: dict[str, str | None] = field(default_factory=dict)

    async def load(self) -> None:
        """Take in what was remembered. What cannot be read is left out."""
        if self.shelf is None:
            return
        for key, text in (await self.shelf.read() or {}).items():
            if not key.startswith(KEPT_AS):
                continue
            try:
                document = json.loads(text)
                self._known[key] = (str(document["learned"]), Posterior.from_json_object(document))
            except (KeyError, TypeError, ValueError) as error:
                LOG.warning("a curve cannot be read", extra={"error": str(error)})

    def prior(self, key: str) -> Prior:
        """What is believed of a server of the kind before anything is seen of it."""
        known = self._known.get(key)
        return UNSEEN if known is None else known[1].prior()

    def learned(self, key: str, posterior: Posterior) -> None:
        """Remember what rests on enough; it is written by the next ``write``."""
        before = self._known.get(key)
        if posterior.intervals < INTERVALS or (before is not None and before[1] == posterior):
            return
        now = timestamp(self.clock())
        self._known[key] = (now, posterior)
        self._unwritten[key] = json.dumps(
            {"learned": now, **posterior.to_json_object()}, sort_keys=True
        )
        for old in sorted(self._known, key=lambda one: self._known[one][0])[:-KEPT]:
            del self._known[old]
            self._unwritten[old] = None

    async def write(self) -> None:
        """Keep what was learned since the last time; one write for all."""
        changed, self._unwritten = self._unwritten, {}
        if changed and self.shelf is not None:
            await self.shelf.write(changed)
