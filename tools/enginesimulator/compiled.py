"""The same code, compiled by numba, or plain where ``ENGINE_SIMULATOR_PLAIN`` is set.

Compiled, hours of an engine take a twentieth of the time; plain, nothing is compiled first, which
suits tests of seconds. What comes out is the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

COMPILED = not os.environ.get("ENGINE_SIMULATOR_PLAIN")

if COMPILED:
    # What is kept of a function stays when one that it calls changes, so that each state of the
    # sources has a folder of its own.
    _sources = b"".join(one.read_bytes() for one in sorted(Path(__file__).parent.glob("*.py")))
    _kept = Path("build/numba-cache", hashlib.sha256(_sources).hexdigest()[:16])
    os.environ.setdefault("NUMBA_CACHE_DIR", str(_kept.absolute()))
    import numba
    import numpy


def compiled(function: Function) -> Function:
    """The function, compiled and kept on disk."""
    if not COMPILED:
        return function
    return cast("Function", numba.njit(cache=True, nogil=True)(function))


def floats(values: Sequence[float]) -> Any:
    """An array of floats that compiled code can index; a list where nothing is."""
    return numpy.array(values, dtype=numpy.float64) if COMPILED else list(values)


def integers(values: Sequence[int]) -> Any:
    """The same of integers."""
    return numpy.array(values, dtype=numpy.int64) if COMPILED else list(values)
