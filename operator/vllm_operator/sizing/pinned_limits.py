"""Limits of a batch that are too large for a GPU: pins, requests at once; and values that fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from vllm_operator.api.v1alpha1 import Engine
from vllm_operator.errors import Infeasible

from .layout import Layout, Rejection, find_layout
from .request import Request

FIELDS: Final = {
    "max_num_seqs": "spec.engine.maxNumSeqs",
    "max_num_batched_tokens": "spec.engine.maxNumBatchedTokens",
}
CONCURRENCY_FIELD: Final = "spec.workload.concurrency"
SMALLEST: Final = 64
"""Smaller limits than this are no remedy that anybody wants."""


def lower_limits(request: Request, nearest: Rejection, text: str) -> Infeasible | None:
    """The pins to lower for the nearest layout to fit, by halves; None where that does not help.

    ``text`` says what does not fit.
    """
    if nearest.problem.field != "spec.gpu":
        return None
    fewer = _fewer_requests(request, nearest)
    if fewer is not None:
        workload = request.spec.workload
        asked = workload.concurrency if workload is not None else None
        at_most = fewer * request.pins.ranks
        return Infeasible(
            CONCURRENCY_FIELD,
            f"is {asked}, and the model {text}. What works: {CONCURRENCY_FIELD} of at most "
            f"{at_most} a replica (spec.replicas spreads the load)",
        )
    for engine in _lowered(request):
        found = find_layout(replace(request, engine=engine), nearest.gpu, nearest.division)
        if isinstance(found, Layout):
            return _problem(request.engine, engine, text)
    return None


def _fewer_requests(request: Request, nearest: Rejection) -> int | None:
    """Expected requests at once for which there is room, by halves; None where none helps."""
    fewer = (request.load.concurrency or 0) // 2
    while fewer:
        load = replace(request.load, concurrency=fewer)
        found = find_layout(replace(request, load=load), nearest.gpu, nearest.division)
        if isinstance(found, Layout):
            return fewer
        fewer //= 2
    return None


def _lowered(request: Request) -> Iterator[Engine]:
    """Engines with one pin halved ever again, then with both; none that vLLM would refuse."""
    engine = request.engine
    pinned = {name: value for name in FIELDS if (value := getattr(engine, name)) is not None}
    choices = [(name,) for name in pinned] + ([tuple(pinned)] if len(pinned) > 1 else [])
    for names in choices:
        values = {name: pinned[name] // 2 for name in names}
        while min(values.values()) >= SMALLEST:
            lowered = engine.model_copy(update=values)
            if not _legal(request, lowered):
                break
            yield lowered
            values = {name: value // 2 for name, value in values.items()}


def _legal(request: Request, engine: Engine) -> bool:
    """Whether the limits suit each other, the length and the asked requests at once."""
    asked = request.load.concurrency or 0
    seqs, tokens = engine.max_num_seqs, engine.max_num_batched_tokens
    if seqs is not None and seqs < asked:
        return False
    if tokens is None:
        return True
    length = (engine.max_model_len or 0) if engine.chunked_prefill is False else 0
    return tokens >= max(seqs or 0, asked, length)


def _problem(pinned: Engine, lowered: Engine, text: str) -> Infeasible:
    changed = [
        (field, getattr(pinned, name), getattr(lowered, name))
        for name, field in FIELDS.items()
        if getattr(pinned, name) != getattr(lowered, name)
    ]
    works = " and ".join(f"{field} of at most {value}" for field, _, value in changed)
    field, value, _ = changed[0]
    return Infeasible(field, f"is {value}, and the model {text}. What works: {works}")
