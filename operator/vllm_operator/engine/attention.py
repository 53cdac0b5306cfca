"""Which attention backend an engine says in its log that it took, and how vLLM ranks it.

The lines: vllm 0.12.0, 0.20.0, 0.30.0 and 0.32.0 ``platforms/cuda.py`` ("Using FLASH_ATTN
attention backend out of potential backends: …", or "Using FLASH_ATTN backend." where it was asked
for), 0.32.0 ``platforms/rocm.py``, and 0.8.5 ``platforms/cuda.py`` ("Using Flash Attention backend
on V1 engine."). vLLM's CPU build says nothing of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from vllm_operator import datafiles

Standing = Literal["preferred", "fallback"]

_CHOSEN: Final = re.compile(r"Using (\w+) attention backend out of potential backends")
_PRECLUDED: Final = re.compile(
    r"--block-size (\d+) precluded higher-priority backend\(s\) ([\w, ]+)"
)


@dataclass(frozen=True, slots=True)
class Attention:
    """What a log says."""

    backend: str
    """As the log spells it."""
    precluded: str = ""
    """Backends that vLLM would rather have taken, but for ``--block-size``."""


def attention_in(log: str) -> Attention | None:
    """The last that a log tells of; None where it tells of none."""
    found = [*_CHOSEN.finditer(log), *_named().finditer(log)]
    if not found:
        return None
    last = max(found, key=lambda one: one.start())
    precluded = _PRECLUDED.search(log)
    return Attention(last[1], precluded[2].strip() if precluded else "")


def standing(backend: str, maker: str) -> Standing | None:
    """How vLLM ranks a backend on GPUs of a maker (``nvidia``, ``amd``); None where it is not in
    the table."""
    for row in datafiles.rows(__package__, "attention_backends.csv"):
        if (row["name"], row["maker"]) == (backend, maker):
            return "preferred" if row["standing"] == "preferred" else "fallback"
    return None


@lru_cache(maxsize=1)
def _named() -> re.Pattern[str]:
    """Other backends (of mixtures of experts, of pictures) are told in the same words."""
    names = {row["name"] for row in datafiles.rows(__package__, "attention_backends.csv")}
    known = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    ends = r"(?: on V1 engine\.|\.| out of potential| \(selected)"
    return re.compile(rf"Using (?:AttentionBackendEnum\.)?({known}) backend{ends}")
