"""A real API server admits, refuses, explains, scales and diffs what the schema says."""

import copy
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from localcluster import ApiError, Cluster
from unit.api.examples import (
    FULL,
    MINIMAL,
    MODEL,
    ODD_VALUES,
    OTHERS,
    RULE_EXAMPLES,
    VIOLATIONS,
    Example,
    Violation,
    largest,
    members,
    server,
)
from vllm_operator.api.base import API_VERSION
from vllm_operator.api.conditions import ConditionDraft, merge_conditions
from vllm_operator.api.crd import CRD_NAME, custom_resource_definition, schema_problems
from vllm_operator.api.offline import field_paths, spec_schema
from vllm_operator.api.schema import SAFE_INTEGER, structural_schema
from vllm_operator.api.status import VLLMServerStatus
from vllm_operator.api.v1alpha1 import VLLMServer

CRD_FILE = Path(__file__).parents[2] / "crds" / f"{CRD_NAME}.yaml"
pytestmark = pytest.mark.xdist_group("admission")
REMARKS = ("some validation rules were not checked", "Checked value must be of type")


def name_of(manifest: dict) -> str:
    return str(manifest["metadata"]["name"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(kwok=False, manifests=[CRD_FILE]) as cluster:
        yield cluster


_NUMBERS = itertools.count()


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    name = f"admission-{next(_NUMBERS)}"
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return name


Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(cluster: Cluster, namespace: str) -> Kubectl:
    """Runs kubectl in the test's namespace; a manifest is given as an object or as YAML text."""

    def run(*arguments: str, manifest: Mapping[str, Any] | str | None = None) -> str:
        text = manifest if isinstance(manifest, str | None) else yaml.safe_dump(dict(manifest))
        result = cluster.kubectl("--namespace", namespace, *arguments, input=text)
        assert "Warning" not in result.stderr, result.stderr
        return result.stdout

    return run


def servers(namespace: str) -> str:
    return f"/apis/{API_VERSION}/namespaces/{namespace}/vllmservers"


def refusal(cluster: Cluster, manifest: Mapping[str, Any]) -> dict[str, str] | None:
    """The messages of the API server's refusal by field; None where it admits the manifest.

    Its remarks about the other errors, which have no field, are left out. A refusal of unknown
    fields comes before all others, and their names stand in one message.
    """
    try:
        cluster.api("POST", f"{servers('default')}?dryRun=All&fieldValidation=Strict", manifest)
    except ApiError as error:
        refused = error
    else:
        return None
    if refused.status == 400:
        return {"unknown": refused.message}
    return {
        _plain(cause["field"]): cause["message"]
        for cause in refused.body["details"]["causes"]
        if not any(remark in cause["message"] for remark in REMARKS)
    }


def _plain(field: str) -> str:
    """A field of a refusal; a rule's has the key of a map in brackets."""
    named = field.lstrip(".").replace("<nil>", "metadata.name")
    return re.sub(r"\[([^\d\]][^\]]*)\]", r".\1", named)


def stored(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    return cluster.api("GET", f"{servers(namespace)}/{name}")


def test_the_definition_is_accepted_without_a_warning_or_a_structural_complaint(cluster: Cluster):
    again = cluster.kubectl("apply", "--server-side", "-f", str(CRD_FILE))
    assert again.stderr == ""
    status = cluster.get("crd", CRD_NAME)["status"]
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


def test_the_api_server_keeps_the_definition_as_it_is_written(cluster: Cluster):
    kept = cluster.get("crd", CRD_NAME)["spec"]["versions"]
    assert kept == custom_resource_definition()["spec"]["versions"]


def test_the_rules_would_pass_with_room_left_in_their_cost_budget(cluster: Cluster):
    # The API server counts the cost of every rule for the largest object; three times each rule
    # must still pass, so that one more field or rule does not break the definition.
    definition = copy.deepcopy(custom_resource_definition())
    definition["metadata"]["name"] = "copies.example.com"
    definition["spec"] |= {"group": "example.com"}
    definition["spec"]["names"] = {"kind": "Copy", "plural": "copies"}

    def triple(node: Any) -> None:
        if isinstance(node, dict):
            if "x-kubernetes-validations" in node:
                node["x-kubernetes-validations"] *= 3
            for member in node.values():
                triple(member)

    triple(definition["spec"]["versions"][0]["schema"])
    cluster.api(
        "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All", definition
    )


def test_a_minimal_manifest_is_admitted_and_nothing_but_replicas_is_added(
    cluster: Cluster, namespace: str, kubectl: Kubectl
):
    kubectl("apply", "--server-side", "-f", "-", manifest=MINIMAL)
    server_object = stored(cluster, namespace, "qwen")
    assert server_object["spec"] == {"model": MODEL, "replicas": 1}
    assert "status" not in server_object
    assert "finalizers" not in server_object["metadata"]


@pytest.mark.parametrize("manifest", [FULL, *OTHERS], ids=name_of)
def test_a_full_manifest_is_kept_as_it_is_written(cluster: Cluster, namespace: str, manifest: dict):
    kept = cluster.api("POST", f"{servers(namespace)}?fieldValidation=Strict", manifest)
    assert kept["spec"] == {"replicas": 1, **manifest["spec"]}


def test_kubectl_refuses_an_unknown_field_by_its_name(cluster: Cluster, namespace: str):
    manifest = yaml.safe_dump(server({"model": MODEL, "engine": {"maxNumSequences": 8}}))
    result = cluster.kubectl("-n", namespace, "apply", "-f", "-", input=manifest, check=False)
    assert result.returncode == 1
    assert 'unknown field "spec.engine.maxNumSequences"' in result.stderr


@pytest.mark.parametrize("violation", VIOLATIONS, ids=str)
def test_a_broken_bound_is_refused_with_the_fields_name(cluster: Cluster, violation: Violation):
    assert violation.path in (refusal(cluster, violation.manifest) or {})


def test_a_refused_name_is_told_in_words_and_not_by_a_pattern(cluster: Cluster):
    told = refusal(cluster, server({"model": {"id": "https://bucket/qwen"}})) or {}
    assert told["spec.model.id"] == (
        'Invalid value: "https://bucket/qwen": must be a repository of the Hugging Face Hub, such '
        "as Qwen/Qwen3-8B, an address in an object store (s3://, gs:// or az://), such as "
        "s3://models/qwen, or a folder of the engine's container, such as /opt/qwen; weights on a "
        "volume or in an image are named in spec.model.storage"
    )


@pytest.mark.parametrize("example", RULE_EXAMPLES, ids=lambda example: example.sentence)
def test_server_and_offline_check_agree_on_each_rule(cluster: Cluster, example: Example):
    refused = refusal(cluster, example.manifest) or {}
    assert sorted(refused) == sorted(example.refused)
    offline = {problem.field: problem.message for problem in schema_problems(example.manifest)}
    assert offline.keys() == refused.keys()
    for field, message in offline.items():
        assert refused[field].endswith(message)
        # The remedy is what a reader is left with, and no dump of the object stands before it.
        assert len(refused[field]) <= len(message) + len("Invalid value: ") + 1


@pytest.mark.parametrize(
    "spec",
    [
        {"pod": {"resources": {"requests": {"cpu": 2**60}}}},
        {"pod": {"resources": {"requests": {"cpu": "any"}, "limits": {"cpu": "1"}}}},
        {"pod": {"labels": {"team": None}}},
        {"model": {"id": "m" * 200}},
        {"model": {"id": "a/b/c"}},
        {"model": {"id": "a/b\n"}},
        {"pod": {"annotations": {"note": "\u00e9" * 4096}}},
        {"pod": {"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}},
        {"engine": {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}},
        {"engine": {"env": [None]}},
        {"engine": []},
        {"engine": {"enforceEager": "true"}},
        {"engine": {"version": 0.3}},
        {"replicas": -1},
        {"replicas": None},
        {"model": None},
        {"pod": {"shmSize": "1e400"}},
        {"pod": {"topologySpreadConstraints": [
            {"maxSkew": skew, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
            for skew in (1, 2)
        ]}},
    ],
    ids=str,
)  # fmt: skip
def test_server_and_offline_check_agree_on_odd_values(cluster: Cluster, spec: dict):
    manifest = server({"model": MODEL, **spec})
    offline = {problem.field for problem in schema_problems(manifest)}
    assert (refusal(cluster, manifest) or {}).keys() == offline


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_server_and_offline_check_admit_the_same_manifests(cluster: Cluster, data: st.DataObject):
    manifest = copy.deepcopy(FULL)
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(list(members(manifest["spec"]))))
        if data.draw(st.booleans()):
            container[key] = copy.deepcopy(data.draw(st.sampled_from(ODD_VALUES)))
        else:
            del container[key]
    admitted = refusal(cluster, whole(manifest)) is None
    assert admitted == (schema_problems(manifest) == [])
    if admitted:
        VLLMServer.model_validate(manifest)


def whole(value: Any) -> Any:
    """4.0 as 4, as kubectl sends it."""
    if isinstance(value, dict):
        return {key: whole(member) for key, member in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize("text", ["0.29", "0.30000000000000004", "9.0e-1", "0.05", "0.99"])
def test_a_fraction_is_kept_and_leaves_no_difference(
    cluster: Cluster, namespace: str, kubectl: Kubectl, text: str
):
    manifest = (
        f"apiVersion: {API_VERSION}\nkind: VLLMServer\nmetadata: {{name: qwen}}\n"
        f"spec: {{model: {{id: a/b}}, engine: {{gpuMemoryUtilization: {text}}}}}\n"
    )
    kubectl("apply", "-f", "-", manifest=manifest)
    engine = stored(cluster, namespace, "qwen")["spec"]["engine"]
    assert engine["gpuMemoryUtilization"] == float(text)
    assert kubectl("diff", "-f", "-", manifest=manifest) == ""


def test_a_whole_number_may_be_written_with_a_decimal_point(
    cluster: Cluster, namespace: str, kubectl: Kubectl
):
    spec = {"model": MODEL, "engine": {"maxNumSeqs": 4.0, "maxNumBatchedTokens": 64.0}}
    kubectl("apply", "-f", "-", manifest=server(spec))
    engine = stored(cluster, namespace, "qwen")["spec"]["engine"]
    assert engine == {"maxNumSeqs": 4, "maxNumBatchedTokens": 64}
    assert schema_problems(server(spec)) == []


def test_a_tiny_fraction_is_refused_as_too_small_and_not_as_text(cluster: Cluster, namespace: str):
    manifest = yaml.safe_dump(server({"model": MODEL})) + "  engine: {gpuMemoryUtilization: 1e-06}"
    result = cluster.kubectl("-n", namespace, "apply", "-f", "-", input=manifest, check=False)
    assert "spec.engine.gpuMemoryUtilization" in result.stderr
    assert "greater than or equal to 0.05" in result.stderr


@pytest.mark.parametrize("side", ["--server-side=false", "--server-side"])
@pytest.mark.parametrize("manifest", [MINIMAL, FULL, *OTHERS], ids=name_of)
def test_an_applied_manifest_shows_no_difference(kubectl: Kubectl, manifest: dict, side: str):
    kubectl("apply", side, "-f", "-", manifest=manifest)
    assert kubectl("diff", side, "-f", "-", manifest=manifest) == ""
    generation = kubectl("get", "vllm", "-o", "jsonpath={.items[*].metadata.generation}")
    kubectl("apply", side, "-f", "-", manifest=manifest)
    assert generation == "1"
    assert kubectl("get", "vllm", "-o", "jsonpath={.items[*].metadata.generation}") == "1"


FACTS = {"rope_scaling": None, "quantization_config": {"bits": None}}
WITH_NULLS = server(
    {
        "model": {**MODEL, "revision": None, "config": FACTS},
        "engine": {"maxNumSeqs": None, "lora": None, "env": None},
        "gpu": None,
        "replicas": None,
        "pod": {"labels": {"team": None}},
    }
)


def test_nulls_are_dropped_but_for_those_inside_the_models_facts(
    cluster: Cluster, namespace: str, kubectl: Kubectl
):
    assert schema_problems(WITH_NULLS) == []
    kubectl("create", "-f", "-", manifest=WITH_NULLS)
    assert stored(cluster, namespace, "qwen")["spec"] == {
        "model": {**MODEL, "config": FACTS},
        "engine": {},
        "pod": {"labels": {}},
        "replicas": 1,
    }


def test_client_side_apply_of_nulls_leaves_no_difference(kubectl: Kubectl):
    kubectl("apply", "-f", "-", manifest=WITH_NULLS)
    assert kubectl("diff", "-f", "-", manifest=WITH_NULLS) == ""


def test_server_side_apply_of_nulls_is_refused_with_their_names(cluster: Cluster, namespace: str):
    # The API server drops nulls when it decodes a custom resource, and an apply is merged before.
    result = cluster.kubectl(
        *("-n", namespace, "apply", "--server-side", "-f", "-"),
        input=yaml.safe_dump(WITH_NULLS),
        check=False,
    )
    for field in ("spec.model.revision", "spec.engine.maxNumSeqs", "spec.engine.env", "spec.gpu"):
        assert f"{field}: Invalid value" in result.stderr


def test_explain_reads_as_documentation(kubectl: Kubectl):
    tree = kubectl("explain", "vllmserver.spec", "--recursive")
    names = {path.removesuffix("[]").rpartition(".")[2] for path in field_paths()}
    for name in names:
        assert f"{name}\t<" in tree
    schema = spec_schema()["properties"]["engine"]["properties"]["maxNumSeqs"]
    field = " ".join(kubectl("explain", "vllmserver.spec.engine.maxNumSeqs").split())
    assert schema["description"] in field
    assert "<integer>" in field
    whole = " ".join(kubectl("explain", "vllm").split())
    assert "A vLLM model server: what to serve, and how it is to run." in whole


def test_kubectl_scales_a_server_within_its_bounds(
    cluster: Cluster, namespace: str, kubectl: Kubectl
):
    kubectl("apply", "-f", "-", manifest=MINIMAL)
    kubectl("scale", "vllm/qwen", "--replicas=3")
    assert stored(cluster, namespace, "qwen")["spec"] == {"model": MODEL, "replicas": 3}
    kubectl("scale", "vllm/qwen", "--replicas=0")
    assert stored(cluster, namespace, "qwen")["spec"]["replicas"] == 0
    result = cluster.kubectl("-n", namespace, "scale", "vllm/qwen", "--replicas=1001", check=False)
    assert "spec.replicas" in result.stderr


def test_the_largest_status_is_admitted_and_read_back_as_it_was_written(
    cluster: Cluster, namespace: str, kubectl: Kubectl
):
    kubectl("apply", "-f", "-", manifest=MINIMAL)
    status = largest(structural_schema(VLLMServerStatus, "status"))
    body = {"apiVersion": API_VERSION, "kind": "VLLMServer", "status": status}
    cluster.api(
        "PATCH",
        f"{servers(namespace)}/qwen/status?fieldManager=test&fieldValidation=Strict",
        json.dumps(body),
        content_type="application/apply-patch+yaml",
    )
    kept = stored(cluster, namespace, "qwen")
    assert kept["status"] == status
    assert kept["status"]["plan"]["memory"]["total"] == SAFE_INTEGER
    assert kept["metadata"]["generation"] == 1
    read = VLLMServerStatus.model_validate(kept["status"])
    assert read.to_json_object() == status


def test_the_columns_show_what_the_status_says(cluster: Cluster, namespace: str, kubectl: Kubectl):
    kubectl("apply", "-f", "-", manifest=MINIMAL)
    drafts = [
        ConditionDraft(type="Available", status="True", reason="ReplicasReady", message="1 of 1."),
        ConditionDraft(type="Ready", status="False", reason="WaitingForGPU", message="Wait."),
    ]
    conditions = merge_conditions([], drafts, generation=1, now="2026-01-01T00:00:00Z")
    status = {
        "replicas": 1,
        "selector": "app.kubernetes.io/instance=qwen",
        "summary": {
            "model": MODEL["id"],
            "ready": "1/4",
            "gpus": "2 x H100",
            "parallelism": "TP2",
            "version": "0.30.0",
        },
        "conditions": [one.to_json_object() for one in conditions],
    }
    cluster.api(
        "PATCH",
        f"{servers(namespace)}/qwen/status",
        {"status": status},
        content_type="application/merge-patch+json",
    )
    header, row = kubectl("get", "vllm").splitlines()
    assert header.split() == [
        "NAME", "MODEL", "GPUS", "PARALLELISM", "VERSION", "READY", "STATUS", "AGE"
    ]  # fmt: skip
    assert row.split()[:-1] == [
        "qwen", MODEL["id"], "2", "x", "H100", "TP2", "0.30.0", "1/4", "WaitingForGPU"
    ]  # fmt: skip
    assert "vllmserver.vllm-operator.io/qwen" in kubectl("get", "all")
    kubectl("wait", "--for=condition=Available", "vllm/qwen", "--timeout=10s")
    scale = cluster.api("GET", f"{servers(namespace)}/qwen/scale")
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == {"replicas": 1, "selector": "app.kubernetes.io/instance=qwen"}
