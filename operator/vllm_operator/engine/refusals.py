"""What the engine refuses of what its parser takes: between the arguments and the first step.

``refusals.csv`` has a row for each such constraint, with what must hold for it (``when``: all of
the facts) and what lifts it (``unless``: any). Numbers of single flags stand in ``bounds.csv``,
what a quantisation demands in ``quantization.csv``, and what a number of the layout decides in
sizing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .tables import rows_for
from .versions import Version

LINEAR: Final = frozenset({"gdn", "kda", "kda_full", "linear", "short_conv"})
"""Recurrent layers that cache prefixes in mode ``align`` alone (0.20.0 ``models/interfaces.py``,
``SupportsMambaPrefixCaching`` has others)."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked for, as far as a constraint speaks of it."""

    architecture: str
    capability: tuple[int, int] | None = None
    """Compute capability; None where no GPU is known yet."""
    rocm: bool = False
    latent: bool = False
    sparse: bool = False
    """Latent attention with an indexer."""
    compressed: bool = False
    """DeepSeek-V4's attention."""
    states: frozenset[str] = frozenset()
    """Kinds of recurrent layers."""
    multimodal: bool = False
    pooling: bool = False
    nvfp4_experts: bool = False
    quantization: str | None = None
    """The method, as the checkpoint or ``spec.engine.quantization`` names it."""
    cache: str | None = None
    """``spec.engine.kvCacheDtype`` as pinned."""
    float32: bool = False
    prefix_caching: bool | None = None
    chunked_prefill: bool | None = None
    pipeline: int = 1
    drafts: str | None = None
    """Method of speculative decoding."""
    adapters: bool = False
    backend: str | None = None
    """``--attention-backend``."""
    moe: str | None = None
    """``--moe-backend``."""
    arguments: frozenset[tuple[str, str]] = frozenset()
    """Flags of ``spec.engine.extraArgs`` with their values, empty for switches."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which field the engine refuses, why, and what works."""

    field: str
    why: str


FACTS: Final[Mapping[str, Callable[[Case], bool]]] = {
    "gpu": lambda one: _major(one) is not None,
    "rocm": lambda one: one.rocm,
    "sm8": lambda one: _major(one) == 8,
    "sm9": lambda one: _major(one) == 9,
    "sm10": lambda one: _major(one) == 10,
    "sm12": lambda one: _major(one) == 12,
    "latent": lambda one: one.latent,
    "sparse": lambda one: one.sparse,
    "compressed": lambda one: one.compressed,
    "recurrent": lambda one: bool(one.states),
    "linear": lambda one: bool(one.states & LINEAR),
    "multimodal": lambda one: one.multimodal,
    "nvfp4_experts": lambda one: one.nvfp4_experts,
    "cache_auto": lambda one: one.cache == "auto",
    "cache_8bit": lambda one: one.cache not in (None, "auto"),
    "cache_e4m3": lambda one: one.cache == "fp8_e4m3",
    "cache_e5m2": lambda one: one.cache == "fp8_e5m2",
    "float32": lambda one: one.float32,
    "whole_prompts": lambda one: one.chunked_prefill is False,
    "caches_prefixes": lambda one: one.prefix_caching is True,
    "unset_prefixes": lambda one: one.prefix_caching is None,
    "stages": lambda one: one.pipeline > 1,
    "draft_model": lambda one: one.drafts == "draft_model",
    "adapters": lambda one: one.adapters,
    "drafts": lambda one: one.drafts is not None,
    "pooling": lambda one: one.pooling,
}
"""What the columns ``when`` and ``unless`` speak of, beside ``VALUED`` with a value of several
(``backend=A|B``), a flag that is given (``--flag``) and one that has a value (``--flag=a|b``)."""

VALUED: Final[Mapping[str, Callable[[Case], str | None]]] = {
    "backend": lambda one: one.backend,
    "moe": lambda one: one.moe,
    "quantization": lambda one: one.quantization,
}
"""Facts that are followed by the values that they may have."""


def _major(case: Case) -> int | None:
    """The major compute capability of an NVIDIA GPU that is known."""
    return None if case.rocm or case.capability is None else case.capability[0]


def _holds(fact: str, case: Case) -> bool:
    name, chosen, values = fact.partition("=")
    if name.startswith("--"):
        given = (value for flag, value in case.arguments if flag == name)
        return any(not chosen or value in values.split("|") for value in given)
    if not chosen:
        return FACTS[name](case)
    return VALUED[name](case) in values.split("|")


@lru_cache(maxsize=64)
def _rows(version: Version) -> tuple[tuple[Mapping[str, str], list[str], list[str]], ...]:
    found = rows_for("refusals.csv", version)
    return tuple((row, row["when"].split(), row["unless"].split()) for row in found)


@lru_cache(maxsize=1024)
def refused(case: Case, version: Version) -> Refusal | None:
    """The first thing that the engine of ``version`` refuses; None where no row holds."""
    for row, when, unless in _rows(version):
        if not all(_holds(fact, case) for fact in when):
            continue
        if any(_holds(fact, case) for fact in unless):
            continue
        why = row["says"].format(
            version=version,
            architecture=case.architecture,
            cache=case.cache,
            pipeline=case.pipeline,
            backend=case.backend,
            moe=case.moe,
            quantization=case.quantization,
        )
        return Refusal(row["field"], f"{why}; {row['remedy']}")
    return None
