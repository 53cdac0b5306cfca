"""Models of the object store that ``spec.model.id`` names: why an engine could not read one, and
the memory that weights take on their way to the GPUs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

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
_LIMIT = re.compile(r"-1|[0-9]{1,15}")
LOADED_BY_ITS_OWN: Final = "bitsandbytes"
"""The quantisation that sets a format of its own (0.12.0 ``engine/arg_utils.py``)."""


def store_problems(
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


def streamed_bytes(
    spec: VLLMServerSpec, features: Features, weight_bytes: int, processes: int
) -> int | None:
    """Bytes of a pod's memory that the streamer's buffers take; None where nothing is streamed.

    Each of the pod's processes reads all ``weight_bytes`` through a buffer of its own, no larger
    than they are; where they part them (``distributed``), together once. The largest tensor alone
    (a limit of 0) is held by what a process has anyway.
    """
    arguments = features.extra_arguments
    given = arguments.value(LOAD_FORMAT)
    if spec.model.scheme is None and given not in addresses.STREAMERS:
        return None
    config = _loader_config(arguments.value(addresses.LOADER_CONFIG))
    limit = config.get("memory_limit")
    if not isinstance(limit, int) or isinstance(limit, bool):
        limit = _limit_of(spec)
    each = weight_bytes if limit < 0 else min(limit, weight_bytes)
    if config.get("distributed") is True:
        return min(weight_bytes, processes * each)
    return processes * each


def _loader_config(text: str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _limit_of(spec: VLLMServerSpec) -> int:
    engine = spec.engine or Engine()
    said = (one.value or "" for one in engine.env or [] if one.name == addresses.MEMORY_LIMIT)
    value = next(said, "")
    return int(value) if _LIMIT.fullmatch(value) else addresses.memory_limit()
