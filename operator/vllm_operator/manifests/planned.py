"""The one way from a specification and its inputs to a plan with its objects."""

from __future__ import annotations

from dataclasses import dataclass

from vllm_operator.api.plan import Plan, Unplanned
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import PlanningError
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.sizing.asked.defaults import Overlaid, overlaid
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.plan.planner import Sized, size, unplanned

from .render import Object, inference_pool, live_objects, render


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, the GPUs that it was made for, and what is applied for it."""

    server: VLLMServer
    """Of which server it is, with what the platform's defaults say for it."""
    plan: Plan
    gpu: GPUOffer
    objects: tuple[Object, ...]
    beside: tuple[Object, ...] = ()
    """What is applied for the server as well, and follows from it without any plan."""


def planned(server: VLLMServer, inputs: PlanningInputs) -> Planned | Unplanned:
    """A plan of the server with its objects, or why there is none."""
    whole = overlaid(server, inputs.defaults)
    sized = size(whole.server, inputs)
    return _rendered(whole, inputs, sized) if isinstance(sized, Sized) else _told(whole, sized)


def rendered(server: VLLMServer, inputs: PlanningInputs, sized: Sized) -> Planned | Unplanned:
    """A plan with the objects of the server as it stands: none where they would be refused."""
    return _rendered(overlaid(server, inputs.defaults), inputs, sized)


def _rendered(whole: Overlaid, inputs: PlanningInputs, sized: Sized) -> Planned | Unplanned:
    plan = sized.plan.model_copy(update={"defaults": list(whole.given) or None})
    try:
        objects = render(whole.server, plan, sized.gpu, inputs.identity)
        pool = inference_pool(whole.server)
        beside = (*live_objects(whole.server), *(() if pool is None else (pool,)))
        return Planned(whole.server, plan, sized.gpu, objects, beside)
    except PlanningError as error:
        return _told(whole, unplanned(whole.server, inputs, [error]))


def _told(whole: Overlaid, found: Unplanned) -> Unplanned:
    """Problems of defaults by the name of the chart's value."""
    return found.model_copy(update={"problems": [whole.told(one) for one in found.problems]})
