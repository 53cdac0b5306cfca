"""Reads the data files of this room: rows that hold from one vLLM version to another.

``since`` and ``until`` are both included; ``until`` 0.19 means every 0.19.x, and an empty one
means up to the newest.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from vllm_operator import datafiles

from .versions import Version


def rows(name: str) -> tuple[Mapping[str, str], ...]:
    """Every row of a data file."""
    return datafiles.rows(__package__, name)


@lru_cache(maxsize=1024)
def rows_for(name: str, version: Version) -> tuple[Mapping[str, str], ...]:
    """The rows of a data file that hold for ``version``, in the file's order."""
    return tuple(row for row in rows(name) if holds(row, version))


@lru_cache(maxsize=4096)
def does(name: str, version: Version) -> bool:
    """Whether ``version`` does what ``since.csv`` describes under ``name``."""
    spans = [row for row in rows("since.csv") if row["name"] == name]
    assert spans, f"since.csv has no {name}"
    return any(holds(row, version) for row in spans)


def first_to(name: str) -> str:
    """The first version that does what ``since.csv`` describes under ``name``."""
    return next(row["since"] for row in rows("since.csv") if row["name"] == name)


def holds(row: Mapping[str, str], version: Version) -> bool:
    """Whether ``version`` lies in the row's span."""
    since = Version.parse(row["since"])
    if version.release < since.release:
        return False
    if not row["until"]:
        return True
    last = tuple(int(part) for part in row["until"].split("."))
    return version.release[: len(last)] <= last
