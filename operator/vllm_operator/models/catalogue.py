"""Facts of models that need no look-up: ``catalogue.json``, read once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from vllm_operator import datafiles

from .facts import ModelFacts

QUANTIZED: Final = "quantization_config"
WORDS: Final = frozenset(
    {
        "fp8", "awq", "gptq", "int4", "int8", "nvfp4", "mxfp4", "w4a16", "w8a8", "dynamic", "4bit",
        "8bit", "quantized",
    }
)  # fmt: skip
"""Words that are added to a model's name where its checkpoint is quantised."""
SHAPES: Final = (
    "architectures",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
"""What a quantised checkpoint leaves as it is."""


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


@lru_cache(maxsize=256)
def quantized_of(model_id: str) -> tuple[str, ...]:
    """Catalogued checkpoints of the same model in fewer bits, sorted.

    One is of the same model where its name is the other's and words of quantisation
    (``Llama-3.3-70B-Instruct-FP8-dynamic``), and its config has the same ``SHAPES``.
    """
    facts = find(model_id)
    base = model_id.rpartition("/")[2].casefold()
    if facts is None or QUANTIZED in facts.config:
        return ()
    return tuple(
        name
        for name in known_models()
        if (rest := name.rpartition("/")[2].casefold().removeprefix(f"{base}-"))
        and set(rest.split("-")) <= WORDS
        and QUANTIZED in (other := _models()[name].config)
        and all(other.get(fact) == facts.config.get(fact) for fact in SHAPES)
    )


def fingerprint() -> str:
    """Hash of the catalogue."""
    return datafiles.fingerprint(__package__, "catalogue.json")
