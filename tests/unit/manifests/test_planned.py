"""The one way from a specification to a plan with its objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from support.builders import OFFER, make_server, make_sized
from unit.sizing.examples import GIBIBYTE, LLAMA_70B, inputs_for, offer, server
from vllm_operator.api.plan import Plan, Unplanned
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.manifests.planned import Planned, planned, rendered
from vllm_operator.sizing.asked.defaults import Defaults
from vllm_operator.sizing.plan.planner import Sized

PRODUCT = "NVIDIA-H100-80GB-HBM3"
BROKEN = {"affinity": {"nodeAffinity": "x"}}
NAMED = ["schemaVersion", "inputsHash", "name", "namespace", "feasible"]
LISTS = ["flags", "rejected", "problems"]


def container(found: Planned) -> dict[str, Any]:
    (only,) = found.objects[0]["spec"]["template"]["spec"]["containers"]
    return dict(only)


def told(wanted: VLLMServer, **inputs: Any) -> Unplanned:
    found = planned(wanted, inputs_for(wanted, **inputs))
    assert isinstance(found, Unplanned)
    return found


def test_pods_ask_for_the_gpus_that_were_chosen_where_two_resources_are_of_one_product() -> None:
    wanted = server(LLAMA_70B)
    small = replace(offer(PRODUCT, 20, per_node=1), resource_name="example.com/shared")
    inputs = inputs_for(wanted, offers=(small, offer(PRODUCT, 79.18)), nodes_visible=True)
    found = planned(wanted, inputs)
    assert isinstance(found, Planned)
    assert found.plan.placement.gpu_memory_bytes == int(79.18 * GIBIBYTE)
    assert found.gpu.resource_name == "nvidia.com/gpu"
    assert "nvidia.com/gpu" in container(found)["resources"]["limits"]


def test_a_plan_that_is_kept_is_rendered_with_the_gpus_that_it_was_made_for() -> None:
    wanted = make_server(pod={"labels": {"team": "a"}})
    mine = replace(OFFER, resource_name="example.com/gpu")
    found = rendered(wanted, inputs_for(wanted), replace(make_sized(), gpu=mine))
    assert isinstance(found, Planned)
    assert container(found)["resources"]["limits"] == {"example.com/gpu": "2"}
    assert found.gpu == mine


def test_what_cannot_be_rendered_is_no_plan_and_names_its_field() -> None:
    found = told(server(gpu={"product": "H100"}, pod=BROKEN))
    (problem,) = found.problems
    assert (problem.field, problem.reason) == ("spec.pod.affinity.nodeAffinity", "IllegalPin")
    assert found.inputs_hash


def test_what_is_planned_and_what_is_not_have_the_same_names_and_lists_in_json() -> None:
    wanted = server(gpu={"product": "H100"})
    good, bad = planned(wanted, inputs_for(wanted)), told(server())
    assert isinstance(good, Planned)
    keys = list(good.plan.to_json_object())
    assert (keys[:5], keys[-3:]) == (NAMED, LISTS)
    assert set(keys) - {*NAMED, *LISTS} == {
        "model",
        "engine",
        "placement",
        "memory",
        "capacity",
        "performance",
        "prefixCaching",
        "storage",
        "startup",
    }
    assert list(bad.to_json_object()) == NAMED + LISTS
    assert (good.plan.to_json_object()["feasible"], bad.to_json_object()["feasible"]) == (
        True,
        False,
    )


def test_what_cannot_be_planned_is_never_read_as_a_plan() -> None:
    with pytest.raises(ValidationError):
        Plan.model_validate(told(server()).to_json_object())
    whole = make_sized().plan.to_json_object()
    with pytest.raises(ValidationError):
        Plan.model_validate({**whole, "feasible": False})


PROXY = {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
TAINT = {"key": "dedicated", "operator": "Exists"}
OF_THE_PLATFORM = Defaults.model_validate(
    {
        "model": {"storage": {"hostPath": {"path": "/mnt/models"}}},
        "engine": {"env": [PROXY]},
        "pod": {"tolerations": [TAINT]},
    }
)


def test_a_plan_has_the_platform_s_defaults_in_its_pods_and_in_its_ledger() -> None:
    wanted = server(gpu={"product": "H100"})
    found = planned(wanted, inputs_for(wanted, defaults=OF_THE_PLATFORM))
    assert isinstance(found, Planned)
    assert PROXY in container(found)["env"]
    pod = found.objects[0]["spec"]["template"]["spec"]
    assert TAINT in pod["tolerations"]
    assert pod["volumes"][0]["hostPath"]["path"] == "/mnt/models"
    assert [one.field for one in found.plan.defaults or ()] == [
        "spec.model.storage",
        "spec.engine.env[HTTPS_PROXY]",
        "spec.pod.tolerations",
    ]
    assert found.plan.storage.kind == "HostPath"


def test_a_plan_of_a_server_that_says_everything_has_no_defaults() -> None:
    wanted = server(gpu={"product": "H100"}, pod={"tolerations": []})
    only = Defaults.model_validate({"pod": {"tolerations": [TAINT]}})
    found = planned(wanted, inputs_for(wanted, defaults=only))
    assert isinstance(found, Planned)
    assert "defaults" not in found.plan.to_json_object()


def test_a_plan_that_is_kept_tells_of_the_defaults_that_the_pods_have_now() -> None:
    before = server(gpu={"product": "H100"})
    inputs = inputs_for(before, defaults=OF_THE_PLATFORM)
    found = planned(before, inputs)
    assert isinstance(found, Planned)
    edited = server(gpu={"product": "H100"}, pod={"tolerations": []})
    kept = rendered(edited, inputs, Sized(found.plan, found.gpu))
    assert isinstance(kept, Planned)
    told = [one.field for one in kept.plan.defaults or ()]
    assert told == ["spec.model.storage", "spec.engine.env[HTTPS_PROXY]"]
    assert TAINT not in kept.objects[0]["spec"]["template"]["spec"]["tolerations"]


def test_a_default_that_cannot_be_is_told_by_the_chart_s_value() -> None:
    found = told(
        server(gpu={"product": "H100"}), defaults=OF_THE_PLATFORM, host_path_prefixes=("/data",)
    )
    (problem,) = found.problems
    assert problem.field == "spec.model.storage.hostPath.path"
    assert problem.message.startswith(
        "by the operator's chart value defaults.model.storage: /mnt/models is no folder"
    )
