"""Facts of models that need no look-up: ``catalogue.json``, read once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vllm_operator import datafiles

from .facts import ModelFacts


@lru_cache(maxsize=1)
def _models() -> Mapping[str, ModelFacts]:
    return {
        entry["id"]: ModelFacts(
            config=entry["config"], weight_bytes=entry["weightBytes"], source="catalogue"
        )
        for entry in json.loads(datafiles.text(__package__, "catalogue.json"))["models"]
    }


@lru_cache(maxsize=1)
def _folded() -> Mapping[str, str]:
    return {name.casefold(): name for name in _models()}


def find(model_id: str) -> ModelFacts | None:
    """The facts of a repository; the Hub's names are told apart without regard to case."""
    name = _folded().get(model_id.casefold())
    return None if name is None else _models()[name]


@lru_cache(maxsize=1)
def _drafters() -> Mapping[str, Mapping[str, Any]]:
    entries = json.loads(datafiles.text(__package__, "drafters.json"))["drafters"]
    return {entry["id"].casefold(): entry["config"] for entry in entries}


def drafter(model_id: str) -> Mapping[str, Any] | None:
    """The ``config.json`` of a drafter that no server serves by itself (``drafters.json``)."""
    return _drafters().get(model_id.casefold())


def known_models() -> tuple[str, ...]:
    """Every catalogued repository, sorted."""
    return tuple(sorted(_models(), key=str.casefold))


def nearest(model_id: str) -> str | None:
    """The catalogued name most like ``model_id``, for messages."""
    close = difflib.get_close_matches(model_id.casefold(), sorted(_folded()), n=1, cutoff=0.6)
    return _folded()[close[0]] if close else None


def fingerprint() -> str:
    """Hash of the catalogue."""
    return datafiles.fingerprint(__package__, "catalogue.json")
