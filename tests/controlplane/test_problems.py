"""What cannot work is accepted, explained with numbers, and leaves what runs untouched."""

from __future__ import annotations

from typing import Any

import pytest

from support.operating import OperatorProcess
from support.world import World, flag
from vllm_operator.api.canonical import digest

LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"
UNPLANNABLE: list[tuple[str, dict[str, Any], str, str, list[str]]] = [
    (
        "an unknown model",
        {"model": {"id": "Qwen/Qwen2.5-7B-Instrukt"}},
        "UnknownModel",
        "spec.model.id",
        ["Qwen/Qwen2.5-7B-Instruct", "spec.model.config"],
    ),
    (
        "an unknown GPU",
        {"gpu": {"product": "H1000"}},
        "UnknownGPU",
        "spec.gpu.product",
        ["H1000", "spec.gpu.memoryGiB"],
    ),
    (
        "a tensor-parallel size that the heads forbid",
        {"parallelism": {"tensor": 8}},
        "IllegalPin",
        "spec.parallelism.tensor",
        ["28", "8"],
    ),
    (
        "a context beyond the model's limit",
        {"engine": {"maxModelLen": 1_000_000}},
        "IllegalPin",
        "spec.engine.maxModelLen",
        ["1000000", "32768"],
    ),
    (
        "a model that fits nowhere",
        {"model": {"id": LLAMA_70B}, "gpu": {"product": "L4", "perNode": 1}},
        "Infeasible",
        "spec.gpu",
        ["GiB"],
    ),
    (
        "a vLLM that is too old",
        {"engine": {"image": "vllm/vllm-openai:v0.6.0"}},
        "UnsupportedEngineVersion",
        "spec.engine.image",
        ["0.6.0", "0.8"],
    ),
    (
        "a variable that the operator sets",
        {"engine": {"env": [{"name": "HF_HOME", "value": "/x"}]}},
        "IllegalPin",
        "spec.engine.env",
        ["spec.model.storage"],
    ),
    (
        "a ConfigMap that does not exist",
        {"model": {"id": "a/b", "configMapRef": {"name": "facts", "key": "config.json"}}},
        "UnknownModel",
        "spec.model.configMapRef",
        ["facts"],
    ),
]


@pytest.mark.parametrize(
    ("spec", "reason", "field", "words"),
    [case[1:] for case in UNPLANNABLE],
    ids=[case[0].replace(" ", "-") for case in UNPLANNABLE],
)
def test_is_said_with_its_field_and_numbers(
    world: World,
    operator: OperatorProcess,
    spec: dict[str, Any],
    reason: str,
    field: str,
    words: list[str],
) -> None:
    world.apply(**spec)
    planned = world.wait_condition("Planned", "False", reason)
    (problem, *_) = world.status()["problems"]
    assert problem["field"].startswith(field)
    assert problem["reason"] == reason
    assert [word for word in words if word not in problem["message"]] == []
    assert problem["message"] in planned["message"]
    assert world.condition("Ready")["reason"] == reason
    assert world.find("Deployment", "qwen") is None


def test_an_invalid_edit_leaves_the_running_server_untouched_and_repaired(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    world.wait_ready()
    before = world.get("Deployment")
    plan = world.status()["plan"]
    world.apply(engine={"maxModelLen": 1_000_000})
    world.wait_condition("Planned", "False", "IllegalPin")
    assert world.get("Deployment")["spec"] == before["spec"]
    assert world.status()["plan"] == plan
    assert world.condition("Available")["status"] == "True"
    image = "/spec/template/spec/containers/0/image"
    world.patch("Deployment", "qwen", [{"op": "replace", "path": image, "value": "busybox"}])
    world.wait(lambda: world.get("Deployment")["spec"] == before["spec"], "the repair", timeout=10)
    world.delete("Service")
    world.wait(lambda: world.find("Service", "qwen"), "the Service to return")


def test_a_running_server_with_an_invalid_edit_still_scales(
    world: World, operator: OperatorProcess
) -> None:
    world.apply()
    world.wait_ready()
    world.apply(engine={"maxModelLen": 1_000_000}, replicas=2)
    world.wait(lambda: world.get("Deployment")["spec"]["replicas"] == 2, "the scaling")


def test_a_mended_specification_is_planned_again(world: World, operator: OperatorProcess) -> None:
    world.apply(engine={"maxModelLen": 1_000_000})
    world.wait_condition("Planned", "False", "IllegalPin")
    world.apply(engine={"maxModelLen": 4096})
    world.wait_ready()
    assert world.status()["problems"] == []
    assert flag(world.args(), "--max-model-len") == "4096"


def test_somebody_else_s_service_of_that_name_stays_theirs(
    world: World, operator: OperatorProcess
) -> None:
    theirs = world.create(
        "Service",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "qwen", "labels": {"team": "other"}},
            "spec": {"ports": [{"port": 80}]},
        },
    )
    world.apply()
    planned = world.wait_condition("Planned", "False", "NameConflict")
    assert "Service qwen" in planned["message"]
    assert world.get("Service") == theirs
    assert world.find("Deployment", "qwen") is None
    world.delete("VLLMServer")
    world.wait(lambda: world.find("VLLMServer", "qwen") is None, "the server to go")
    assert world.get("Service")["metadata"]["uid"] == theirs["metadata"]["uid"]


def test_somebody_else_s_deployment_of_that_name_stays_theirs_and_no_service_is_made(
    world: World, operator: OperatorProcess
) -> None:
    labels = {"app": "theirs"}
    container = {"name": "web", "image": "example.com/web:1"}
    theirs = world.create(
        "Deployment",
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "qwen"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
    )
    world.apply()
    planned = world.wait_condition("Planned", "False", "NameConflict")
    assert "Deployment qwen" in planned["message"]
    live = world.get("Deployment")
    assert (live["metadata"]["uid"], live["spec"]) == (theirs["metadata"]["uid"], theirs["spec"])
    assert "ownerReferences" not in live["metadata"]
    assert world.find("Service", "qwen") is None


def test_a_config_map_that_comes_later_is_found(world: World, operator: OperatorProcess) -> None:
    world.apply(model={"id": "me/tiny", "configMapRef": {"name": "facts", "key": "config.json"}})
    world.wait_condition("Planned", "False", "UnknownModel")
    assert world.condition("Stalled")["status"] == "False"
    config = (
        '{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, '
        '"num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, '
        '"intermediate_size": 8192, "vocab_size": 128256, "max_position_embeddings": 131072, '
        '"torch_dtype": "bfloat16", "tie_word_embeddings": true, "head_dim": 64}'
    )
    metadata = {"name": "facts"}
    world.create("ConfigMap", {"metadata": metadata, "data": {"config.json": config}})
    world.wait_ready(timeout=60)
    assert world.status()["plan"]["model"]["source"] == "configMap"


def test_a_warning_event_says_why(world: World, operator: OperatorProcess) -> None:
    world.apply(gpu={"product": "H1000"})
    world.wait_condition("Planned", "False", "UnknownGPU")

    def warned() -> Any:
        return [e for e in world.list("Event") if e["type"] == "Warning"]

    (event,) = world.wait(warned, "the event")
    assert event["reason"] == "UnknownGPU"
    assert "H1000" in event["note"]
    assert event["regarding"]["name"] == "qwen"


def test_a_plan_s_name_that_is_somebody_else_s_stays_theirs(
    world: World, operator: OperatorProcess
) -> None:
    created = world.apply(paused=True)
    name = f"qwen-{digest(created['metadata']['uid'], 6)}-1"
    metadata = {"name": name}
    body = {"metadata": metadata, "revision": 1, "data": {"theirs": True}}
    theirs = world.create("ControllerRevision", body)
    world.apply()
    world.wait_ready()
    assert world.get("ControllerRevision", name) == theirs
    assert len(world.list("ControllerRevision")) == 2


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "an operator that no affinity has",
        {"matchExpressions": [{"key": "zone", "operator": "Equals", "values": ["a"]}]},
        "operator",
    ),
    ("a field that no term has", {"matchExpresions": []}, "matchExpresions"),
]


@pytest.mark.parametrize(
    ("term", "word"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_an_edit_that_the_api_server_refuses_leaves_the_last_good_state_repaired(
    world: World, operator: OperatorProcess, term: dict[str, Any], word: str
) -> None:
    world.apply()
    world.wait_ready()
    before = world.get("Deployment")
    required = {"nodeSelectorTerms": [term]}
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    world.apply(pod={"affinity": {"nodeAffinity": {key: required}}})
    planned = world.wait_condition("Planned", "False", "ObjectRefused")
    assert word in planned["message"]
    assert world.get("Deployment")["spec"] == before["spec"]
    world.delete("Deployment")
    world.wait(
        lambda: (
            (found := world.find("Deployment", "qwen"))
            and found["metadata"]["uid"] != before["metadata"]["uid"]
        ),
        "the Deployment to return",
    )
    assert world.get("Deployment")["spec"] == before["spec"]
    world.apply()
    world.wait_ready()


def test_a_new_server_that_the_api_server_refuses_says_so(
    world: World, operator: OperatorProcess
) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    quota["spec"] = {"hard": {"count/deployments.apps": "0"}}
    path = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
    world.cluster.api("POST", path, quota)
    world.wait(
        lambda: world.cluster.api("GET", f"{path}/none").get("status", {}).get("used"),
        "the quota to be counted",
    )
    world.apply()
    planned = world.wait_condition("Planned", "False", "ObjectRefused")
    assert "exceeded quota" in planned["message"]
    assert not world.condition("Stalled")["message"].startswith("the specification must change")
