"""What an edit keeps of a plan in force that was left to the operator."""

from __future__ import annotations

from dataclasses import replace

from support.builders import OFFER, make_server
from support.observed import PLAN
from unit.sizing.examples import inputs_for
from vllm_operator.lifecycle.remembered import Remembered
from vllm_operator.lifecycle.standing import Standing, standing_of
from vllm_operator.models import catalogue
from vllm_operator.models.facts import ModelFacts

IMAGE = "vllm/vllm-openai:v0.29.0"
FACTS = catalogue.find("Qwen/Qwen2.5-7B-Instruct")
assert FACTS is not None
OF_THE_HUB = replace(FACTS, source="hub")
NOTHING = Remembered.from_status(None)
REMEMBERED = Remembered.from_status(
    {"plan": {"placement": {"gpu": "NVIDIA-L4"}, "engine": {"image": IMAGE}}}
)


def standing(facts: ModelFacts = OF_THE_HUB, model: str = "Qwen/Qwen2.5-7B-Instruct") -> Standing:
    inputs = inputs_for(make_server(), model=facts, offers=(OFFER,), default_image=IMAGE)
    in_force = replace(PLAN, inputs=inputs.to_json_object())
    found = standing_of(make_server(model={"id": model}), in_force, NOTHING)
    assert found is not None
    return found


def test_an_edit_keeps_the_product_with_its_offer_and_the_image() -> None:
    found = standing()
    assert found.product == "NVIDIA-H100-80GB-HBM3"
    assert found.offer == OFFER
    assert found.image == IMAGE


def test_what_only_the_hub_knows_is_kept_while_the_model_is_the_same() -> None:
    assert standing().facts == OF_THE_HUB
    assert standing(model="Qwen/Qwen2.5-14B-Instruct").facts is None


def test_facts_that_can_be_read_again_are_not_kept() -> None:
    assert standing(replace(OF_THE_HUB, source="configMap")).facts is None


def test_a_plan_that_is_asked_for_outright_keeps_nothing() -> None:
    server = make_server()
    server.metadata.annotations["vllm-operator.io/replan"] = "now"
    assert standing_of(server, PLAN, REMEMBERED) is None


def test_of_a_plan_that_cannot_be_read_nothing_is_kept() -> None:
    assert standing_of(make_server(), replace(PLAN, sized=None), REMEMBERED) is None


def test_where_no_plan_is_pinned_the_status_tells_product_and_image() -> None:
    assert standing_of(make_server(), None, REMEMBERED) == Standing("NVIDIA-L4", image=IMAGE)


def test_an_image_of_the_server_s_own_wins_over_a_remembered_one() -> None:
    own = make_server(engine={"image": "vllm/vllm-openai:v0.30.0"})
    assert standing_of(own, None, REMEMBERED) == Standing("NVIDIA-L4")
