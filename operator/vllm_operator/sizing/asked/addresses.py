"""Why an engine could not read its model from the object store that ``spec.model.id`` names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vllm_operator.api.v1alpha1 import Engine, VLLMServerSpec
from vllm_operator.engine import addresses
from vllm_operator.engine.addresses import LOAD_FORMAT
from vllm_operator.engine.environment import offline_variable
from vllm_operator.engine.tables import does, first_to
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin, PlanningError
from vllm_operator.models.architecture import Architecture

from .features import Features

MODEL_FIELD: Final = "spec.model.id"
LOADED_BY_ITS_OWN: Final = "bitsandbytes"
"""The quantisation that sets a format of its own (0.12.0 ``engine/arg_utils.py``)."""


def address_problems(
    spec: VLLMServerSpec, version: Version, architecture: Architecture | None, features: Features
) -> Iterator[PlanningError]:
    """What stops an engine from reading its model from an object store."""
    scheme, engine = spec.model.scheme, spec.engine or Engine()
    if scheme is None:
        return
    unread = addresses.unread_because(scheme, version)
    if unread is not None:
        yield IllegalPin(MODEL_FIELD, f"{unread}: use one of them, in spec.engine.image")
    given = features.extra_arguments.value(LOAD_FORMAT)
    if given not in (None, addresses.STREAMER):
        yield IllegalPin(
            "spec.engine.extraArgs",
            f"has {LOAD_FORMAT} {given}, and a model of an object store is read by "
            f"{addresses.STREAMER} alone; remove it",
        )
    stored = architecture.quantization.method if architecture is not None else None
    if LOADED_BY_ITS_OWN in (engine.quantization, stored):
        yield IllegalPin(
            MODEL_FIELD,
            f"is in an object store, and {LOADED_BY_ITS_OWN} loads by itself and from a disk; "
            "use the weights as they are, or put them on a volume (spec.model.storage)",
        )
    offline = offline_variable(engine.env or [])
    if offline is not None and not does("leaves-addresses-offline", version):
        yield IllegalPin(
            f"spec.engine.env[{offline.name}]",
            f"is {offline.value}, and vLLM {version} then looks for {spec.model.id} in the Hub's "
            "cache; remove it: the Hub is not asked for a model of an object store",
        )
    drafts = features.speculation is not None and features.speculation.loads == "own"
    if drafts and not does("streams-own-drafts", version):
        yield IllegalPin(
            "spec.engine.speculative",
            f"drafts with the model's own layers, which vLLM {version} reads from a disk alone; "
            f"remove it, use vLLM {first_to('streams-own-drafts')} or newer, or put the weights on "
            "a volume (spec.model.storage)",
        )
    names = {variable.name for variable in engine.env or []}
    if scheme == "az" and not names.intersection(addresses.ACCOUNT):
        yield IllegalPin(
            MODEL_FIELD,
            f"names a container and not whose it is; set {addresses.ACCOUNT[0]} in spec.engine.env "
            f"(or {addresses.ACCOUNT[1]})",
        )
