"""How the pods of a plan reach its GPU: resource name and node labels."""

from __future__ import annotations

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import Infeasible
from vllm_operator.sizing.asked.gpu_candidates import offer_of
from vllm_operator.sizing.asked.inputs import PlanningInputs

from .render import GPUSelection


def gpu_selection(server: VLLMServer, plan: Plan, inputs: PlanningInputs) -> GPUSelection:
    """The selection for a feasible plan, from the same inputs that it was made of.

    Raises Infeasible where those inputs do not hold the planned product.
    """
    assert plan.placement is not None
    offer = offer_of(plan.placement.gpu, server.spec.gpu, inputs)
    if offer is None:
        raise Infeasible("spec.gpu.product", f"no source offers {plan.placement.gpu} any longer")
    return GPUSelection(offer.resource_name, offer.node_labels)
