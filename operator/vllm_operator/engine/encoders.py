"""How vLLM lays out the encoder of a multimodal model over tensor-parallel ranks."""

from __future__ import annotations

from typing import Final

from .tables import rows, rows_for
from .versions import Version

TABLE: Final = "encoder_data.csv"
FLAG: Final = "--mm-encoder-tp-mode"
DATA: Final = "data"
"""Its value with which every rank has the whole encoder and encodes other items."""


def divided_with_data(architecture: str, version: Version) -> tuple[str, ...] | None:
    """The modules of the encoder that ranks divide all the same, by the first part of their names.

    None where no release of that model is known to take it: vLLM then divides the encoder as ever
    (0.33.0 ``config/model.py``).
    """
    for row in rows_for(TABLE, version):
        if row["architecture"] == architecture:
            return tuple(row["divided"].split())
    return None


def data_since(architecture: str) -> str | None:
    """The first release that is known to lay a model's encoder out so; None where none is."""
    found = (row for row in rows(TABLE) if row["architecture"] == architecture)
    return next((row["since"] for row in found), None)
