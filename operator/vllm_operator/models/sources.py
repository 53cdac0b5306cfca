"""Where a model's facts come from, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from vllm_operator.api.pod import KeyReference
from vllm_operator.api.v1alpha1 import Model
from vllm_operator.errors import UnknownModel

from . import catalogue
from .facts import FIELDS, ModelFacts, facts_from_inline

Answer = TypeVar("Answer")
"""Of what has to be asked: facts, or what is awaited for them."""


def facts_of(
    model: Model, config_map: Callable[[KeyReference], Answer], hub: Callable[[Model], Answer]
) -> ModelFacts | Answer:
    """The facts in the manifest, else its ConfigMap's, else the catalogue's, else the Hub's.

    What lies at an address or in a folder is not read: it has the facts of the catalogued
    repository whose name it ends with.

    Raises UnknownModel, and whatever the sources do that are passed in.
    """
    if model.config is not None:
        return facts_from_inline(model)
    if model.config_map_ref is not None:
        return config_map(model.config_map_ref)
    if model.is_repository:
        return catalogue.find(model.id) or hub(model)
    found = catalogue.find("/".join(model.id.rstrip("/").split("/")[-2:]))
    if found is None:
        raise UnknownModel(
            FIELDS["inline"],
            f"is not given, and what lies at {model.id} is not read for a plan; give its "
            "config.json there, or a ConfigMap with it in spec.model.configMapRef, unless the "
            "address ends with a catalogued repository, as /Qwen/Qwen3-8B does",
        )
    return found
