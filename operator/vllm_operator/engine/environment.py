"""Environment variables of the engine: those that a user may not set, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from vllm_operator.api.pod import EnvironmentVariable

from .tables import rows

OFFLINE: Final = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""What forbids to ask the Hub; the second is read where the first is unset or empty
(huggingface_hub ``constants.py``, which vLLM and transformers ask)."""
TRUE: Final = frozenset({"1", "ON", "YES", "TRUE"})
"""``ENV_VARS_TRUE_VALUES``, the same place."""


def offline_variable(variables: Sequence[EnvironmentVariable]) -> EnvironmentVariable | None:
    """The variable that forbids the engine to ask the Hub; None where none is known to do so."""
    for name in OFFLINE:
        for variable in variables:
            if variable.name == name and variable.value != "":
                return variable if (variable.value or "").upper() in TRUE else None
    return None


def refused_because(name: str) -> str | None:
    """What to do instead of setting this variable, or None where it is the user's to set."""
    for row in rows("reserved_environment.csv"):
        prefix = row["match"] == "prefix"
        if name == row["name"] or (prefix and name.startswith(row["name"])):
            return row["remedy"]
    return None
