"""Environment variables of the engine: those that a user may not set, and why."""

from __future__ import annotations

from .tables import rows


def refused_because(name: str) -> str | None:
    """What to do instead of setting this variable, or None where it is the user's to set."""
    for row in rows("reserved_environment.csv"):
        prefix = row["match"] == "prefix"
        if name == row["name"] or (prefix and name.startswith(row["name"])):
            return row["remedy"]
    return None
