"""One config of the shape of a released model for families that the catalogue has no model of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Released:
    """A config, what was published of the model, and what vLLM makes of it."""

    like: str
    published: int | None
    """Elements of the checkpoint."""
    built: dict[int, int | None] | None
    """Bytes of the parameters on the first rank by tensor-parallel size; None: refused."""
    spread: dict[int, int | None] | None
    """The same with ``--mm-encoder-tp-mode data``; None where it was not asked for."""
    config: dict[str, Any]

    def __str__(self) -> str:
        return self.like


def _by_size(held: dict[str, int | None] | None) -> dict[int, int | None] | None:
    return held and {int(size): one for size, one in held.items()}


def _read() -> tuple[Released, ...]:
    text = Path(__file__).with_name("families.json").read_text(encoding="utf-8")
    return tuple(
        Released(
            like=row["like"],
            published=row["published"],
            built=_by_size(row["built"]),
            spread=_by_size(row.get("spread")),
            config=row["config"],
        )
        for row in json.loads(text)["families"]
    )


RELEASED: Final = _read()
