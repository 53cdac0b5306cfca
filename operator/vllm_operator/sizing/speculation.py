"""A model with what speculative decoding adds to it: weights, and layers in its KV cache.

Which vLLM versions know a method and what it loads stands in ``speculation.csv``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, Literal

from vllm_operator.engine.tables import holds
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.drafts import MODEL_FIELD, eagle_draft, own_draft, whole_draft

FIELD: Final = "spec.engine.speculative.method"

Loads = Literal["nothing", "own", "head", "model"]
"""``own``: the model's multi-token-prediction layers; ``head``: an EAGLE head."""


@lru_cache(maxsize=1)
def _rows() -> tuple[Mapping[str, str], ...]:
    text = files(__package__).joinpath("speculation.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def methods_of(version: Version) -> tuple[str, ...]:
    """The methods of speculative decoding that are sized and that ``version`` knows."""
    return tuple(row["method"] for row in _rows() if holds(row, version))


def loads_of(method: str, version: Version) -> Loads:
    """What a method loads; raises ``IllegalPin`` where it is not known to ``version`` or here."""
    for row in _rows():
        if row["method"] == method and holds(row, version):
            loads: Loads = row["loads"]  # type: ignore[assignment]
            return loads
    raise IllegalPin(
        FIELD,
        f"{method!r} cannot be sized for vLLM {version}; take one of "
        f"{', '.join(methods_of(version))}",
    )


def with_draft(
    architecture: Architecture,
    method: str,
    version: Version,
    *,
    config: Mapping[str, Any] | None = None,
    weight_bytes: int | None = None,
) -> Architecture:
    """The model with its draft loaded: ``bytes_per_rank`` and ``cache_layout`` then count it.

    ``config`` is the ``config.json`` of the draft (EAGLE heads, draft models) and ``weight_bytes``
    the bytes of its tensors. Raises ``IllegalPin`` for a method that cannot be planned for this
    model and version, ``UnknownModel`` for a draft that is not understood.
    """
    text = None if config is None else json.dumps(config, sort_keys=True)
    return _with_draft(architecture, method, version, text, weight_bytes)


@lru_cache(maxsize=256)
def _with_draft(
    architecture: Architecture,
    method: str,
    version: Version,
    text: str | None,
    weight_bytes: int | None,
) -> Architecture:
    loads = loads_of(method, version)
    if loads == "nothing":
        return architecture
    if loads == "own":
        draft = own_draft(architecture, method)
        if draft is None:
            raise IllegalPin(
                FIELD,
                f"{method!r} needs multi-token-prediction layers and the model's config.json names "
                "none (num_nextn_predict_layers, mtp_num_hidden_layers); take ngram",
            )
        return replace(architecture, speculator=draft)
    if text is None:
        raise IllegalPin(MODEL_FIELD, f"is needed by {method!r}: the repository of the draft")
    config = json.loads(text)
    if loads == "head":
        kind: Literal["eagle", "eagle3"] = "eagle3" if method == "eagle3" else "eagle"
        return replace(
            architecture, speculator=eagle_draft(config, kind, architecture, weight_bytes)
        )
    found = architecture_from_config(config)
    if found.vocabulary_size != architecture.vocabulary_size:
        raise IllegalPin(
            MODEL_FIELD,
            f"has {found.vocabulary_size} tokens and the model {architecture.vocabulary_size}; "
            "a draft model needs the same vocabulary",
        )
    return replace(architecture, speculator=whole_draft(found, method))
