"""What the platform gives to servers that do not say it themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unit.sizing.examples import QWEN_7B, inputs_for, server
from vllm_operator.api.plan import Problem
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.sizing.asked.defaults import (
    NO_DEFAULTS,
    Defaults,
    overlaid,
    overlaid_pod,
    read_defaults,
)
from vllm_operator.sizing.asked.inputs import PlanningInputs

PROXY = {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
CLAIM = {"persistentVolumeClaim": {"claimName": "models", "path": "/hub"}}
TAINT = {"key": "dedicated", "operator": "Exists"}
AUTHORITY = {"name": "authority", "configMap": {"name": "authority"}}
FOUND_AT = {"name": "authority", "mountPath": "/etc/authority", "readOnly": True}

ALL: dict[str, Any] = {
    "model": {"storage": CLAIM},
    "engine": {"env": [PROXY, {"name": "KEY", "secretKeyRef": {"name": "a", "key": "b"}}]},
    "pod": {
        "labels": {"team": "platform", "cost": "7"},
        "annotations": {"a.example/b": "c"},
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [TAINT],
        "imagePullSecrets": [{"name": "registry"}],
        "runtimeClassName": "nvidia",
        "schedulerName": "volcano",
        "volumes": [AUTHORITY],
        "volumeMounts": [FOUND_AT],
    },
}


def read(document: dict[str, Any]) -> Defaults:
    found, problems = read_defaults(json.dumps(document))
    assert problems == []
    return found


def whole(document: dict[str, Any], wanted: VLLMServer) -> dict[str, Any]:
    return overlaid(wanted, read(document)).server.spec.to_json_object()


def given(document: dict[str, Any], wanted: VLLMServer) -> dict[str, str]:
    return {one.field: one.value for one in overlaid(wanted, read(document)).given}


def wrong(document: Any) -> list[tuple[str, str]]:
    text = document if isinstance(document, str) else json.dumps(document)
    found, problems = read_defaults(text)
    assert found == NO_DEFAULTS
    return [(one.field, one.message) for one in problems]


def test_a_server_that_says_nothing_gets_every_default() -> None:
    spec = whole(ALL, server(QWEN_7B))
    assert spec["model"] == {"id": QWEN_7B, "storage": CLAIM}
    assert spec["engine"] == ALL["engine"]
    assert spec["pod"] == ALL["pod"]


def test_what_was_given_is_told_field_by_field() -> None:
    assert given(ALL, server(QWEN_7B)) == {
        "spec.model.storage": '{"persistentVolumeClaim":{"claimName":"models","path":"/hub"}}',
        "spec.engine.env[HTTPS_PROXY]": "http://proxy:3128",
        "spec.engine.env[KEY]": '{"name":"KEY","secretKeyRef":{"key":"b","name":"a"}}',
        "spec.pod.labels[team]": "platform",
        "spec.pod.labels[cost]": "7",
        "spec.pod.annotations[a.example/b]": "c",
        "spec.pod.nodeSelector[pool]": "gpu",
        "spec.pod.tolerations": '[{"key":"dedicated","operator":"Exists"}]',
        "spec.pod.imagePullSecrets": '[{"name":"registry"}]',
        "spec.pod.runtimeClassName": "nvidia",
        "spec.pod.schedulerName": "volcano",
        "spec.pod.volumes[authority]": ('{"configMap":{"name":"authority"},"name":"authority"}'),
        "spec.pod.volumeMounts[/etc/authority]": (
            '{"mountPath":"/etc/authority","name":"authority","readOnly":true}'
        ),
    }


@pytest.mark.parametrize(
    ("part", "own"),
    [
        ("tolerations", [{"key": "spot", "operator": "Exists"}]),
        ("tolerations", []),
        ("imagePullSecrets", [{"name": "mine"}]),
        ("runtimeClassName", "mine"),
        ("schedulerName", "mine"),
    ],
)
def test_a_server_s_own_field_replaces_the_default(part: str, own: Any) -> None:
    wanted = server(QWEN_7B, pod={part: own})
    assert whole(ALL, wanted)["pod"][part] == own
    assert f"spec.pod.{part}" not in given(ALL, wanted)


def test_a_storage_class_of_the_platform_s_is_that_of_each_pod_s_own_volume() -> None:
    document = {"model": {"storage": {"ephemeral": {"storageClassName": "fast"}}}}
    wanted = server({"id": QWEN_7B})
    assert whole(document, wanted)["model"]["storage"] == document["model"]["storage"]
    assert given(document, wanted) == {
        "spec.model.storage": '{"ephemeral":{"storageClassName":"fast"}}'
    }


def test_a_server_s_own_storage_replaces_the_default() -> None:
    own = {"emptyDir": {"sizeLimit": "40Gi"}}
    wanted = server({"id": QWEN_7B, "storage": own})
    assert whole(ALL, wanted)["model"]["storage"] == own
    assert "spec.model.storage" not in given(ALL, wanted)


def test_a_variable_of_the_server_s_own_replaces_that_one_alone() -> None:
    wanted = server(QWEN_7B, engine={"env": [{"name": "HTTPS_PROXY", "value": ""}]})
    assert whole(ALL, wanted)["engine"]["env"] == [
        {"name": "HTTPS_PROXY", "value": ""},
        {"name": "KEY", "secretKeyRef": {"name": "a", "key": "b"}},
    ]


@pytest.mark.parametrize("part", ["labels", "annotations", "nodeSelector"])
def test_an_entry_of_the_server_s_own_replaces_that_one_alone(part: str) -> None:
    document = {"pod": {part: {"a": "platform", "b": "platform"}}}
    wanted = server(QWEN_7B, pod={part: {"a": "server", "c": "server"}})
    together = {"a": "server", "b": "platform", "c": "server"}
    assert whole(document, wanted)["pod"][part] == together
    assert given(document, wanted) == {f"spec.pod.{part}[b]": "platform"}


def test_a_mount_of_the_server_s_own_replaces_that_of_its_path() -> None:
    mine = {"name": "mine", "mountPath": "/etc/authority"}
    volume = {"name": "mine", "emptyDir": {}}
    wanted = server(QWEN_7B, pod={"volumes": [volume], "volumeMounts": [mine]})
    pod = whole(ALL, wanted)["pod"]
    assert pod["volumeMounts"] == [mine]
    assert pod["volumes"] == [volume, AUTHORITY]


def test_without_defaults_the_server_stays_as_it_is() -> None:
    wanted = server(QWEN_7B)
    found = overlaid(wanted, NO_DEFAULTS)
    assert found.server is wanted
    assert found.given == ()


def test_the_pod_alone_can_be_asked_for() -> None:
    spec = server(QWEN_7B, pod={"nodeSelector": {"zone": "a"}}).spec
    assert overlaid_pod(spec, read(ALL)).node_selector == {"pool": "gpu", "zone": "a"}


@pytest.mark.parametrize("text", ["", " ", "{}", '{"pod": {}}', '{"engine": {"env": []}}'])
def test_nothing_gives_nothing(text: str) -> None:
    found, problems = read_defaults(text)
    assert problems == []
    assert overlaid(server(QWEN_7B), found).given == ()


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        ("{", "defaults", "is no JSON"),
        ("[]", "defaults", "must be an object"),
        ({"replicas": 3}, "defaults.replicas", "unknown field"),
        ({"pod": {"priority": "x"}}, "defaults.pod.priority", "unknown field"),
        (
            {"pod": {"tolerations": [{"operator": "Some"}]}},
            "defaults.pod.tolerations[0].operator",
            "must be one of Exists, Equal",
        ),
        (
            {"pod": {"tolerations": [{}]}},
            "defaults.pod.tolerations[0]",
            "set its operator to Exists",
        ),
        (
            {"pod": {"volumeMounts": [FOUND_AT]}},
            "defaults.pod.volumeMounts",
            "mounts a volume that",
        ),
        (
            {"pod": {"labels": {"app.kubernetes.io/name": "x"}}},
            "defaults.pod.labels",
            "belong to the operator",
        ),
        (
            {"engine": {"env": [{"name": "HF_TOKEN", "value": "x"}]}},
            "defaults.engine.env[HF_TOKEN]",
            "use spec.model.tokenSecretRef",
        ),
        (
            {"engine": {"env": [PROXY, PROXY]}},
            "defaults.engine.env[1]",
            "repeats the entry with name HTTPS_PROXY",
        ),
        (
            {"model": {"storage": {"persistentVolumeClaim": {"path": "/a"}}}},
            "defaults.model.storage.persistentVolumeClaim.claimName",
            "is required",
        ),
        (
            {"model": {"storage": {**CLAIM, "emptyDir": {}}}},
            "defaults.model.storage",
            "keep one",
        ),
        (
            {"model": {"storage": {"image": {"reference": "a:1"}}}},
            "defaults.model.storage.image",
            "unknown field",
        ),
        (
            {"model": {"storage": {"hostPath": {"path": "/a", "mode": "Model"}}}},
            "defaults.model.storage.hostPath.mode",
            "unknown field",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(document: Any, field: str, words: str) -> None:
    ((where, message),) = wrong(document)
    assert where == field
    assert words in message


def test_a_problem_with_a_default_names_the_chart_s_value() -> None:
    found = overlaid(server(QWEN_7B), read(ALL))
    problem = Problem(
        field="spec.model.storage.persistentVolumeClaim", reason="IllegalPin", message="no"
    )
    assert found.told(problem).message == (
        "by the operator's chart value defaults.model.storage: no"
    )


@pytest.mark.parametrize("field", ["spec.model.id", "spec.engine.env[OTHER]", "spec.pod.labels"])
def test_a_problem_with_anything_else_stays_as_it_is(field: str) -> None:
    problem = Problem(field=field, reason="IllegalPin", message="no")
    assert overlaid(server(QWEN_7B), read(ALL)).told(problem) == problem


def test_they_are_pinned_with_a_plan_s_inputs() -> None:
    inputs = inputs_for(server(QWEN_7B), defaults=read(ALL))
    again = PlanningInputs.from_json_object(json.loads(json.dumps(inputs.to_json_object())))
    assert again == inputs
    assert again.fingerprint() == inputs.fingerprint()
    assert again.fingerprint() != inputs_for(server(QWEN_7B)).fingerprint()


def test_inputs_without_defaults_have_the_hash_that_they_had_before_there_were_any() -> None:
    assert "defaults" not in inputs_for(server(QWEN_7B)).to_json_object()
