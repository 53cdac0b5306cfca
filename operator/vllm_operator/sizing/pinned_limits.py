"""Pinned limits of a batch that are too large for a GPU, and values with which a model fits."""

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
SMALLEST: Final = 64
"""Smaller limits than this are no remedy that anybody wants."""


def lower_limits(request: Request, nearest: Rejection, text: str) -> Infeasible | None:
    """The pins to lower for the nearest layout to fit, by halves; None where that does not help.

    ``text`` says what does not fit.
    """
    if nearest.problem.field != "spec.gpu":
        return None
    for engine in _lowered(request):
        found = find_layout(replace(request, engine=engine), nearest.gpu, nearest.division)
        if isinstance(found, Layout):
            return _problem(request.engine, engine, text)
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
