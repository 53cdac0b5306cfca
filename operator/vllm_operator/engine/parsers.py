"""The parsers of tool calls and of reasoning that each vLLM version brings: ``parsers.csv``."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Final

from .tables import rows, rows_for
from .versions import Version

TOOL_CALLS: Final = "--tool-call-parser"
REASONING: Final = "--reasoning-parser"


@lru_cache(maxsize=256)
def parsers(flag: str, version: Version) -> tuple[str, ...]:
    """The names that a version accepts after a flag, sorted."""
    return tuple(row["parser"] for row in rows_for("parsers.csv", version) if row["flag"] == flag)


def refusal(flag: str, name: str, version: Version) -> str | None:
    """Why a version has no such parser, with the nearest that it has; None where it has it."""
    known = parsers(flag, version)
    if name in known:
        return None
    spans = [row for row in rows("parsers.csv") if (row["flag"], row["parser"]) == (flag, name)]
    later = [row["since"] for row in spans if version.release < Version.parse(row["since"]).release]
    if later:
        return f"vLLM {version} has no parser {name}, which came with {later[0]}; it has " + (
            ", ".join(known)
        )
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? It has" if near else "it has"
    return f"vLLM {version} has no parser {name}; {hint} {', '.join(known)}"
