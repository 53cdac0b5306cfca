"""The same code, compiled where numba is installed and plain where it is not.

    uv pip install --target build/numba -r benchmarks/requirements-simulator.txt
    PYTHONPATH=build/numba:... python benchmarks/tuning_simulated.py

Plain, it takes about twenty times as long; what comes out is the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

try:
    if os.environ.get("ENGINE_SIMULATOR_PLAIN"):
        raise ImportError
    # What is kept of a function stays when one that it calls changes, so that each state of the
    # sources has a folder of its own.
    _sources = b"".join(one.read_bytes() for one in sorted(Path(__file__).parent.glob("*.py")))
    _kept = Path("build/numba-cache", hashlib.sha256(_sources).hexdigest()[:16])
    os.environ.setdefault("NUMBA_CACHE_DIR", str(_kept.absolute()))
    import numba
    import numpy
except ImportError:
    numba = numpy = None

COMPILED = numba is not None


def compiled(function: Function) -> Function:
    """The function, compiled and kept on disk where that can be."""
    if numba is None:
        return function
    made: Function = numba.njit(cache=True, nogil=True)(function)
    return made


def floats(values: Sequence[float]) -> Any:
    """An array of floats that compiled code can index; a list where nothing is compiled."""
    return list(values) if numpy is None else numpy.array(values, dtype=numpy.float64)


def integers(values: Sequence[int]) -> Any:
    """The same of integers."""
    return list(values) if numpy is None else numpy.array(values, dtype=numpy.int64)
