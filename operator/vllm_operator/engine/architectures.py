"""Which vLLM versions serve which architecture: ``architectures.csv``."""

from __future__ import annotations

from functools import lru_cache

from .tables import holds, rows
from .versions import Version

TABLE = "architectures.csv"


@lru_cache(maxsize=512)
def unserved_because(architecture: str, version: Version) -> str | None:
    """Why a version does not serve an architecture, with the nearest that does; None if it does.

    Architectures without a row, and development builds (their number says nothing of what they
    hold), are not judged.
    """
    spans = [row for row in rows(TABLE) if row["architecture"] == architecture]
    if not spans or ".dev" in version.suffix or any(holds(row, version) for row in spans):
        return None
    later = [row["since"] for row in spans if Version.parse(row["since"]).release > version.release]
    if later:
        first = min(later, key=lambda text: Version.parse(text).release)
        return f"vLLM {version} does not have {architecture}; the first version with it is {first}"
    last = max((row["until"] for row in spans), key=lambda text: Version.parse(text).release)
    return f"vLLM {version} does not have {architecture}; the last version with it is {last}"
