"""A model's facts and where they came from; pure readers of what a user gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from vllm_operator.api.v1alpha1 import Model
from vllm_operator.errors import IllegalPin, UnknownModel

from .architecture import relevant_facts

Source = Literal["inline", "configMap", "catalogue", "hub"]

FIELDS: Mapping[Source, str] = {
    "inline": "spec.model.config",
    "configMap": "spec.model.configMapRef",
    "catalogue": "spec.model.id",
    "hub": "spec.model.id",
}
"""Field of the manifest that a problem with the facts points to."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The ``config.json`` (the part that is read) and the size of the checkpoint's tensors."""

    config: Mapping[str, Any]
    weight_bytes: int | None
    """Bytes of the checkpoint's tensors, where the source knows them."""
    source: Source

    def to_json_object(self) -> dict[str, Any]:
        """The facts as plain JSON, without what sizing does not read."""
        return {
            "config": relevant_facts(self.config),
            "weightBytes": self.weight_bytes,
            "source": self.source,
        }

    @classmethod
    def from_json_object(cls, document: Mapping[str, Any]) -> ModelFacts:
        """The inverse of ``to_json_object``."""
        return cls(
            config=document["config"],
            weight_bytes=document["weightBytes"],
            source=document["source"],
        )


def facts_from_inline(model: Model) -> ModelFacts:
    """The facts in ``spec.model.config``; raises ``UnknownModel`` where there are none."""
    if not model.config:
        raise UnknownModel(FIELDS["inline"], "is not given")
    return ModelFacts(config=model.config, weight_bytes=model.weight_bytes, source="inline")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


POOLING_MODULES: Final = frozenset(
    {
        "sentence_transformers.models.Pooling",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    }
)
"""``_ST_POOLING_MODULE_TYPES`` of vllm 0.33.0 ``transformers_utils/config.py``."""


def pools(modules: str) -> bool:
    """Whether the text of a ``modules.json`` makes vLLM choose its pooling runner.

    It does where one of the modules pools; text that is no list of modules does not, and nor does
    it in vLLM (``get_pooling_config``).
    """
    try:
        found = json.loads(modules)
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, list):
        return False
    return any(isinstance(one, dict) and one.get("type") in POOLING_MODULES for one in found)


def facts_from_json(text: str, source: Source) -> ModelFacts:
    """Facts from the text of a ``config.json``.

    Raises ``IllegalPin`` where a user gave text that is no JSON object, ``UnknownModel`` where a
    catalogue or the Hub did.
    """
    error = IllegalPin if source in ("inline", "configMap") else UnknownModel
    try:
        config = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise error(FIELDS[source], f"does not hold JSON: {problem}") from problem
    if not isinstance(config, dict):
        raise error(FIELDS[source], f"must hold a JSON object, and holds a {type(config).__name__}")
    return ModelFacts(config=config, weight_bytes=None, source=source)
