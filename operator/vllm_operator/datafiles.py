"""Reads the data files that lie beside a room's modules."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=128)
def text(package: str, name: str) -> str:
    """A file's text; ``name`` may lead into a folder."""
    return files(package).joinpath(*name.split("/")).read_text(encoding="utf-8")


@lru_cache(maxsize=128)
def rows(package: str, name: str) -> tuple[Mapping[str, str], ...]:
    """Every row of a CSV file, by the names of its columns."""
    return tuple(csv.DictReader(text(package, name).splitlines()))


@lru_cache(maxsize=128)
def fingerprint(package: str, name: str) -> str:
    """Hash of a file: what was made with another one may come out differently."""
    return hashlib.sha256(text(package, name).encode()).hexdigest()[:16]
