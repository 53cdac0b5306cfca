"""The same specification with weights in fewer bits: what is advised, and never taken unasked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vllm_operator.errors import PlanningError
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.asked.version_support import (
    case_of,
    constraint_problem,
    model_problems,
    value_problems,
)
from vllm_operator.sizing.memory.online_quantization import advised_method, quantized_online

NOTHING: Mapping[str, int] = {}


def quantised(asked: Asked, pins: Mapping[str, int] = NOTHING) -> tuple[str, Asked] | None:
    """The method that is advised, and what is asked with it and with ``pins`` of the engine.

    None where the weights are quantised already, the version has no such method, or refuses it
    for this model or beside what is pinned.
    """
    method, version = advised_method(asked.version), asked.version
    if method is None or asked.checkpoint.quantization.method is not None:
        return None
    if asked.engine.quantization is not None:
        return None
    engine = asked.engine.model_copy(update={**pins, "quantization": method})
    try:
        architecture = quantized_online(asked.architecture, method, version)
    except PlanningError:
        return None
    case = case_of(engine, architecture, asked.features, pipeline=asked.pins.pipeline or 1)
    refused = constraint_problem(case, version) is not None
    refused = refused or any(True for _ in value_problems(engine, version, architecture))
    refused = refused or any(True for _ in model_problems(engine, version, asked.checkpoint))
    return None if refused else (method, replace(asked, engine=engine, architecture=architecture))
