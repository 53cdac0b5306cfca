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
    config: dict[str, Any]

    def __str__(self) -> str:
        return self.like


def _read() -> tuple[Released, ...]:
    text = Path(__file__).with_name("families.json").read_text(encoding="utf-8")
    return tuple(
        Released(
            like=row["like"],
            published=row["published"],
            built=row["built"] and {int(size): held for size, held in row["built"].items()},
            config=row["config"],
        )
        for row in json.loads(text)["families"]
    )


RELEASED: Final = _read()
