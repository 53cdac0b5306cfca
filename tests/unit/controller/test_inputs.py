"""Where the facts of a plan come from, and with whose token the Hub is asked."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from support.builders import make_server
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.controller import inputs as inputs_module
from vllm_operator.controller.client import ApiError, Resource
from vllm_operator.controller.inputs import InputSource, Standing
from vllm_operator.controller.nodes import Nodes
from vllm_operator.controller.settings import OperatorSettings
from vllm_operator.errors import TemporaryFailure, UnknownModel
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.models import hub
from vllm_operator.models.facts import ModelFacts
from vllm_operator.sizing.asked.defaults import Defaults
from vllm_operator.sizing.asked.inputs import PlanningInputs

TOKEN = "hf_of_the_operator"
SETTINGS = OperatorSettings(hub_token=TOKEN, hub_token_namespaces=("research",))
PRIVATE = {"id": "team/private-model"}
CLAIM = {"storage": {"persistentVolumeClaim": {"claimName": "weights"}}}
CONFIG = '{"architectures": ["LlamaForCausalLM"], "hidden_size": %d}'
MAP = {"id": "team/mapped", "configMapRef": {"name": "facts", "key": "config.json"}}


class Hub:
    """Stands for ``hub.fetch``: notes who asked with which token."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.away = False
        monkeypatch.setattr(hub, "fetch", self.fetch)

    def fetch(self, model: str, revision: str | None, token: str | None = None) -> ModelFacts:
        self.asked.append((model, revision, token))
        if self.away:
            raise TemporaryFailure("the Hub is away")
        return ModelFacts({"architectures": ["X"], "hidden_size": len(self.asked)}, 1000, "hub")

    @property
    def tokens(self) -> list[str | None]:
        return [token for _, _, token in self.asked]


THERE = {
    ("configmaps", "elsewhere", "facts"),
    *(("persistentvolumeclaims", "default", name) for name in ("weights", "models", "a")),
}
"""What is asked for of the API server: plural, namespace and name."""


class Objects:
    """Stands for the API server: one object, or the code that it refuses with."""

    def __init__(self, found: dict[str, Any] | int | None = None) -> None:
        self.found = found

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        assert (resource.plural, namespace, name) in THERE
        if isinstance(self.found, int):
            raise ApiError(self.found, "Refused", "no")
        return self.found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(monkeypatch)


def source(
    settings: OperatorSettings = SETTINGS, found: dict[str, Any] | int | None = None
) -> InputSource:
    return InputSource(Objects(found), Nodes(visible=True), settings)  # type: ignore[arg-type]


def of(namespace: str, **spec: Any) -> VLLMServer:
    server = make_server(**{"model": PRIVATE, **spec})
    metadata = server.metadata.model_copy(update={"namespace": namespace})
    return server.model_copy(update={"metadata": metadata})


def hidden(inputs: PlanningInputs) -> Any:
    assert inputs.model is not None
    return inputs.model.config["hidden_size"]


async def test_the_operator_s_token_is_used_for_servers_of_the_namespaces_that_may(
    asked: Hub,
) -> None:
    await source().resolve(of("research"))
    assert asked.tokens == [TOKEN]


async def test_the_operator_s_token_is_never_used_for_a_server_of_another_namespace(
    asked: Hub,
) -> None:
    await source().resolve(of("elsewhere"))
    await source(OperatorSettings(hub_token=TOKEN)).resolve(of("research"))
    assert asked.tokens == [None, None]


async def test_what_was_read_with_the_token_answers_no_one_without_it(asked: Hub) -> None:
    one = source()
    with_token = await one.resolve(of("research"))
    without = await one.resolve(of("elsewhere"))
    assert asked.tokens == [TOKEN, None]
    assert hidden(with_token) != hidden(without)


async def test_servers_of_the_same_model_and_rights_share_an_answer(asked: Hub) -> None:
    one = source()
    first, second = [await one.resolve(of("elsewhere")) for _ in range(2)]
    assert len(asked.asked) == 1
    assert hidden(first) == hidden(second)


async def test_another_revision_is_another_question(asked: Hub) -> None:
    one = source()
    for revision in ("a", "b"):
        await one.resolve(of("elsewhere", model={**PRIVATE, "revision": revision}))
    assert [revision for _, revision, _ in asked.asked] == ["a", "b"]


async def test_an_answer_of_the_hub_serves_for_five_minutes(
    asked: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(inputs_module, "time", clock)
    one = source()
    found = []
    for clock.now in (1000.0, 1299.0, 1301.0):
        found.append(hidden(await one.resolve(of("elsewhere"))))
    assert found == [1, 1, 2]


async def test_of_many_models_three_are_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, go_on = 0, 0, asyncio.Event()

    async def in_a_thread(_function: Any, model: str, *_: Any) -> ModelFacts:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go_on.wait()
        running -= 1
        return ModelFacts({"architectures": ["X"]}, 1000, "hub")

    monkeypatch.setattr(inputs_module.asyncio, "to_thread", in_a_thread)
    one = source()
    asking = [
        asyncio.create_task(one.resolve(of("elsewhere", model={"id": f"team/{number}"})))
        for number in range(5)
    ]
    for _ in range(5):
        await asyncio.sleep(0)
    assert most == 3
    go_on.set()
    await asyncio.gather(*asking)
    assert most == 3


async def test_an_outage_of_the_hub_is_not_remembered(asked: Hub) -> None:
    one = source()
    asked.away = True
    with pytest.raises(TemporaryFailure):
        await one.resolve(of("elsewhere"))
    asked.away = False
    assert hidden(await one.resolve(of("elsewhere"))) == 2


async def test_where_the_hub_may_not_be_asked_it_is_not(asked: Hub) -> None:
    found = await source(OperatorSettings(hub=False)).resolve(of("elsewhere"))
    assert isinstance(found.model_problem, UnknownModel)
    assert asked.asked == []


async def test_a_catalogued_model_is_not_asked_for(asked: Hub) -> None:
    found = await source().resolve(make_server())
    assert found.model is not None
    assert found.model.source == "catalogue"
    assert asked.asked == []


async def test_facts_of_the_hub_that_are_in_force_are_kept(asked: Hub) -> None:
    kept = ModelFacts({"hidden_size": 7}, None, "hub")
    found = await source().resolve(of("elsewhere"), Standing(facts=kept))
    assert found.model is kept
    assert asked.asked == []


async def test_an_edit_keeps_the_image_and_product_that_were_left_to_the_operator() -> None:
    standing = Standing(product="NVIDIA-L4", image="vllm/vllm-openai:v0.20.0")
    found = await source().resolve(make_server(), standing)
    assert found.preferred_product == "NVIDIA-L4"
    assert found.default_image == "vllm/vllm-openai:v0.20.0"


async def test_a_product_whose_nodes_are_scaled_away_is_still_offered_with_no_node() -> None:
    gone = GPUOffer("NVIDIA-L4", 24 << 30, 1, 3, "nvidia.com/gpu", {})
    found = await source().resolve(make_server(), Standing(product="NVIDIA-L4", offer=gone))
    assert [(offer.product, offer.nodes) for offer in found.offers] == [("NVIDIA-L4", 0)]


async def test_a_cluster_without_groups_plans_for_one_node_and_one_with_them_for_eight() -> None:
    one = source()
    assert (await one.resolve(make_server())).max_nodes == 1
    one.groups = True
    assert (await one.resolve(make_server())).max_nodes == 8


def mapped(size: int) -> dict[str, Any]:
    return {"data": {"config.json": CONFIG % size}}


async def test_a_config_map_is_read_again_only_where_that_is_asked_for() -> None:
    one = source(found=mapped(1))
    server = of("elsewhere", model=MAP)
    pinned = await one.resolve(server)
    one._client.found = mapped(2)  # type: ignore[attr-defined]
    assert hidden(await one.compare(server, pinned, live=False)) == 1
    assert hidden(await one.compare(server, pinned, live=True)) == 2
    assert hidden(await one.compare(server, pinned, live=False)) == 2


async def test_a_config_map_that_is_gone_leaves_what_was_pinned_to_compare_with() -> None:
    one = source(found=mapped(1))
    server = of("elsewhere", model=MAP)
    pinned = await one.resolve(server)
    one._client.found = None  # type: ignore[attr-defined]
    assert hidden(await one.compare(server, pinned, live=True)) == 1


async def test_what_only_the_hub_knows_is_compared_as_it_was_pinned(asked: Hub) -> None:
    one = source()
    pinned = await one.resolve(of("research"))
    assert hidden(await one.compare(of("research"), pinned, live=True)) == 1
    assert len(asked.asked) == 1


async def test_a_claim_gives_its_access_modes_and_none_where_it_is_not_there_or_not_shown() -> None:
    server = make_server(model={"id": "Qwen/Qwen2.5-7B-Instruct", **CLAIM})
    there = {"spec": {"accessModes": ["ReadWriteOnce"]}}
    found = (await source(found=there).resolve(server)).claim
    assert found is not None
    assert (found.name, found.access_modes) == ("weights", ("ReadWriteOnce",))
    assert (await source(found=None).resolve(server)).claim is None
    assert (await source(found=403).resolve(server)).claim is None
    with pytest.raises(TemporaryFailure):
        await source(found=500).resolve(server)


def claimed(name: str) -> Defaults:
    storage = {"persistentVolumeClaim": {"claimName": name}}
    return Defaults.model_validate({"model": {"storage": storage}})


async def test_defaults_are_inputs_of_a_plan_and_their_claim_is_read() -> None:
    there = {"spec": {"accessModes": ["ReadWriteOnce"]}}
    found = await source(OperatorSettings(defaults=claimed("models")), there).resolve(make_server())
    assert found.defaults == claimed("models")
    assert found.claim is not None
    assert found.claim.name == "models"


async def test_a_claim_that_is_no_default_any_more_is_not_compared_with() -> None:
    there = {"spec": {"accessModes": ["ReadWriteOnce"]}}
    pinned = await source(OperatorSettings(defaults=claimed("a")), there).resolve(make_server())
    same = await source(OperatorSettings(defaults=claimed("a"))).compare(
        make_server(), pinned, live=False
    )
    other = await source(OperatorSettings(defaults=claimed("b"))).compare(
        make_server(), pinned, live=False
    )
    assert same == pinned
    assert other.claim is None
    assert other.defaults == claimed("b")


async def test_nothing_is_planned_or_compared_with_defaults_that_are_wrong() -> None:
    one = source(OperatorSettings(defaults_problem="defaults.pod is wrong"))
    with pytest.raises(TemporaryFailure, match=r"defaults\.pod is wrong"):
        await one.resolve(make_server())
    pinned = inputs_module.PlanningInputs(model=None, default_image="x")
    with pytest.raises(TemporaryFailure, match=r"defaults\.pod is wrong"):
        await one.compare(make_server(), pinned, live=False)


@pytest.mark.parametrize(
    ("found", "field", "message"),
    [
        (
            None,
            "spec.model.configMapRef.name",
            "there is no ConfigMap facts in namespace elsewhere; create it with the model's "
            "config.json, or give spec.model.config",
        ),
        (
            {"data": {"b": "", "a": ""}},
            "spec.model.configMapRef.key",
            "ConfigMap facts has no key config.json; its keys: a, b",
        ),
        (
            {},
            "spec.model.configMapRef.key",
            "ConfigMap facts has no key config.json; its keys: none",
        ),
    ],
)
async def test_facts_that_are_not_where_they_should_be_are_told_with_what_is_there(
    found: dict[str, Any] | None, field: str, message: str
) -> None:
    problem = (await source(found=found).resolve(of("elsewhere", model=MAP))).model_problem
    assert problem is not None
    assert (problem.field, problem.message) == (field, message)


async def test_a_config_map_that_cannot_be_read_now_is_asked_for_again() -> None:
    with pytest.raises(TemporaryFailure) as failure:
        await source(found=500).resolve(of("elsewhere", model=MAP))
    assert failure.value.field == "spec.model.configMapRef"


async def test_the_hub_s_answers_are_not_remembered_without_bound(
    asked: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs_module, "HUB_ANSWERS_LIMIT", 3)
    one, questions = source(), []
    for model in ("a/1", "a/2", "a/1", "a/3", "a/1"):
        await one.resolve(of("research", model={"id": model}))
        questions.append(len(asked.asked))
    assert questions == [1, 2, 2, 3, 4]


async def test_the_settings_of_the_operator_reach_the_plan() -> None:
    settings = OperatorSettings(
        default_image="mine:1", host_path_prefixes=("/mnt",), pod_identity="Platform"
    )
    found = await source(settings).resolve(make_server())
    assert (found.default_image, found.host_path_prefixes) == ("mine:1", ("/mnt",))
    assert (found.identity, found.nodes_visible) == ("Platform", True)
    assert found.default_image != (await source().resolve(make_server())).default_image
