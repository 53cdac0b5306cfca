"""The one way from a specification and its inputs to a plan with its objects."""

from __future__ import annotations

from dataclasses import dataclass

from vllm_operator.api.plan import Plan, Unplanned
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import PlanningError
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.plan.planner import Sized, size, unplanned

from .render import Object, inference_pool, live_objects, render


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, the GPUs that it was made for, and what is applied for it."""

    plan: Plan
    gpu: GPUOffer
    objects: tuple[Object, ...]
    beside: tuple[Object, ...] = ()
    """What is applied for the server as well, and follows from it without any plan."""


def planned(server: VLLMServer, inputs: PlanningInputs) -> Planned | Unplanned:
    """A plan of the server with its objects, or why there is none."""
    sized = size(server, inputs)
    return rendered(server, inputs, sized) if isinstance(sized, Sized) else sized


def rendered(server: VLLMServer, inputs: PlanningInputs, sized: Sized) -> Planned | Unplanned:
    """A plan with the objects of the server as it stands: none where they would be refused."""
    try:
        objects = render(server, sized.plan, sized.gpu, inputs.identity)
        pool = inference_pool(server)
        beside = (*live_objects(server), *(() if pool is None else (pool,)))
        return Planned(sized.plan, sized.gpu, objects, beside)
    except PlanningError as error:
        return unplanned(server, inputs, [error])
