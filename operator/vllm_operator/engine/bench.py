"""The flags of ``vllm bench serve`` by version: ``bench.csv``."""

from __future__ import annotations

from typing import Final

from vllm_operator.errors import UnsupportedEngineVersion

from .tables import rows, rows_for
from .versions import VERSION_FIELD, Version

COMPLETIONS: Final = "/v1/completions"
"""Where every version of the table sends its requests by default."""


def bench_flags(version: Version) -> frozenset[str]:
    """What ``vllm bench serve`` of a version takes, of the flags that are used here.

    Raises ``UnsupportedEngineVersion`` for a version before the first that was read.
    """
    found = frozenset(row["flag"] for row in rows_for("bench.csv", version))
    if not found:
        first = rows("bench.csv")[0]["since"]
        raise UnsupportedEngineVersion(
            VERSION_FIELD,
            f"vLLM {version} has no `vllm bench serve` that is known here; it is from {first} on",
        )
    return found
