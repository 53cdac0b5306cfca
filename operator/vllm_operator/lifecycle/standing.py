"""What an edit keeps of the plan in force that was left to the operator. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.models.facts import ModelFacts
from vllm_operator.sizing.asked.inputs import PlanningInputs

from .remembered import Remembered
from .revisions import Pinned, replan_request


@dataclass(frozen=True)
class Standing:
    """What is in force and was left to the operator: an edit of other things keeps it."""

    product: str | None = None
    offer: GPUOffer | None = None
    """The product's offer as it was pinned."""
    image: str | None = None
    facts: ModelFacts | None = None
    """Facts that only the Hub knows, where the model is unchanged."""


def standing_of(
    server: VLLMServer, in_force: Pinned | None, remembered: Remembered
) -> Standing | None:
    """What stays as it is, unless a new plan was asked for outright."""
    if in_force is None:
        own = server.spec.engine is not None and server.spec.engine.image is not None
        return Standing(remembered.product, image=None if own else remembered.image)
    if in_force.replan != replan_request(server) or in_force.plan is None:
        return None
    inputs = PlanningInputs.from_json_object(in_force.inputs)
    product, facts = in_force.plan.placement.gpu, inputs.model
    known_to_hub_only = facts is not None and facts.source == "hub"
    unchanged = in_force.spec.model == server.spec.model
    return Standing(
        product=product,
        offer=next((o for o in inputs.offers if o.product == product), None),
        image=inputs.default_image,
        facts=facts if known_to_hub_only and unchanged else None,
    )
