"""The fitted figures of the memory model: ``coefficients.csv``, each with its source.

``expected`` is the best estimate and ``high`` the bound that ``low`` figures are made of. A row
holds for the vLLM versions from ``since`` to ``until`` and from ``min_tensor_parallel`` ranks on.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vllm_operator import datafiles
from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.engine.tables import holds
from vllm_operator.engine.versions import Version


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A figure and the bound that it stays under."""

    expected: float
    high: float


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes that something takes: the best estimate, and the bound that it stays under."""

    expected: int
    high: int


NOTHING: Final = Bytes(0, 0)


def sum_of(parts: Iterable[Bytes]) -> Bytes:
    """The sum, with the bound that it stays under.

    The parts err independently of each other, so that their distances to their bounds add as the
    root of their squares: all of them at their bounds at once is not seen in a hundred starts.
    """
    listed = tuple(parts)
    expected = sum(part.expected for part in listed)
    spread = math.hypot(*(part.high - part.expected for part in listed))
    return Bytes(expected, expected + math.ceil(spread))


_in_use: list[str] = []


def _text() -> str:
    return _in_use[-1] if _in_use else datafiles.text(__package__, "coefficients.csv")


@contextmanager
def use(text: str) -> Iterator[None]:
    """Inside, figures come from this text instead of the committed file: for fits and judgements.

    Not for servers: it changes the whole process.
    """
    _in_use.append(text)
    _forget()
    try:
        yield
    finally:
        _in_use.pop()
        _forget()


def _forget() -> None:
    for cached in (fingerprint, _rows, coefficient, gibibytes):
        cached.cache_clear()


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Hash of the coefficients: a plan made with others may come out differently."""
    return hashlib.sha256(_text().encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _rows() -> tuple[Mapping[str, str], ...]:
    return tuple(csv.DictReader(_text().splitlines()))


@lru_cache(maxsize=2048)
def coefficient(name: str, version: Version, tensor_parallel: int = 1) -> Coefficient:
    """The figure for a version and a number of ranks."""
    found = [
        row
        for row in _rows()
        if row["name"] == name
        and int(row["min_tensor_parallel"]) <= tensor_parallel
        and holds(row, version)
    ]
    row = max(found, key=lambda row: int(row["min_tensor_parallel"]))
    return Coefficient(expected=float(row["expected"]), high=float(row["high"]))


@lru_cache(maxsize=2048)
def gibibytes(name: str, version: Version, tensor_parallel: int = 1) -> Bytes:
    """A figure that the file states in GiB, in bytes."""
    found = coefficient(name, version, tensor_parallel)
    return Bytes(int(found.expected * GIBIBYTE), int(found.high * GIBIBYTE))
