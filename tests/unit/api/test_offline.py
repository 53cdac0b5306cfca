"""A manifest is checked without a cluster as the API server would check it."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.api.examples import (
    FULL,
    MINIMAL,
    MODEL,
    OTHERS,
    RULE_EXAMPLES,
    VIOLATIONS,
    Example,
    Violation,
    server,
)
from vllm_operator.api.crd import schema_problems
from vllm_operator.api.v1alpha1 import VLLMServer


def only_problem(manifest: dict) -> tuple[str, str]:
    (problem,) = schema_problems(manifest)
    assert problem.reason == "IllegalPin"
    return problem.field, problem.message


@pytest.mark.parametrize("manifest", [MINIMAL, FULL, *OTHERS])
def test_the_good_examples_have_no_problem_and_are_read(manifest: dict):
    assert schema_problems(manifest) == []
    assert VLLMServer.model_validate(manifest).metadata.name == manifest["metadata"]["name"]


@pytest.mark.parametrize("example", RULE_EXAMPLES, ids=lambda example: example.sentence)
def test_a_rule_refuses_the_fields_that_it_should(example: Example):
    found = [problem.field for problem in schema_problems(example.manifest)]
    assert sorted(found) == sorted(example.refused)


@pytest.mark.parametrize("violation", VIOLATIONS, ids=str)
def test_a_broken_bound_is_named(violation: Violation):
    assert violation.path in {problem.field for problem in schema_problems(violation.manifest)}


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ({"engine": {"maxNumSeq": 1}}, "did you mean spec.engine.maxNumSeqs?"),
        ({"engine": {"max_num_seqs": 1}}, "did you mean spec.engine.maxNumSeqs?"),
        ({"engine": {"gpu-memory-utilisation": 0.9}}, "spec.engine.gpuMemoryUtilization?"),
        ({"maxNumSeqs": 1}, "did you mean spec.engine.maxNumSeqs?"),
        ({"engine": {"tensor": 2}}, "did you mean spec.parallelism.tensor?"),
        ({"pod": {"affinity": {"podaffinity": {}}}}, "spec.pod.affinity.podAffinity?"),
        ({"gpu": {"qqqq": 1}}, "use one of memoryGiB, perNode, product, resourceName"),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest_known_one(field: dict, hint: str):
    _, message = only_problem(server({"model": MODEL, **field}))
    assert message.startswith("unknown field; ")
    assert hint in message


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ({"engine": {"version": 0.3}}, "spec.engine.version",
         'is 0.3 and must be text; write "0.3" in quotes'),
        ({"engine": {"dtype": "BFloat_16"}}, "spec.engine.dtype",
         "is 'BFloat_16' and must be one of auto, bfloat16, float16, float32; "
         "did you mean bfloat16?"),
        ({"engine": {"maxNumSeqs": 4.5}}, "spec.engine.maxNumSeqs",
         "is 4.5 and must be a whole number"),
        ({"engine": {"maxNumSeqs": True}}, "spec.engine.maxNumSeqs",
         "is true and must be a whole number"),
        ({"engine": {"gpuMemoryUtilization": 1e-06}}, "spec.engine.gpuMemoryUtilization",
         "is 1e-06 and must be at least 0.05"),
        ({"engine": {"env": "A=1"}}, "spec.engine.env", "is 'A=1' and must be a list"),
        ({"engine": {"env": [None]}}, "spec.engine.env[0]",
         "is missing and must be an object (key: value)"),
        ({"gpu": {"product": ""}}, "spec.gpu.product",
         "has 0 characters and must have at least 1 character"),
        ({"pod": {"resources": {"requests": {"cpu": 0.5}}}}, "spec.pod.resources.requests.cpu",
         'is 0.5 and must be a whole number or text; write "0.5" in quotes'),
        ({"pod": {"shmSize": "many"}}, "spec.pod.shmSize",
         "is 'many' and must be a quantity, such as 500m, 2 or 16Gi"),
        ({"pod": {"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}},
         "spec.pod.imagePullSecrets[1]", "repeats the entry with name a; keep one"),
        ({"model": {}}, "spec.model.id",
         "is required: Hugging Face repository of the model, organisation/name; or the name to "
         "serve it under where the weights lie on a volume; or where they are: s3://bucket/folder, "
         "gs:// or az:// alike, which the engine streams from there, or a folder of the engine's "
         "container."),
    ],
)  # fmt: skip
def test_a_problem_says_what_stands_there_and_what_may(spec: dict, path: str, message: str):
    problems = schema_problems(server({"model": MODEL, **spec}))
    assert (path, message) in [(problem.field, problem.message) for problem in problems]


def test_a_manifest_of_another_kind_or_without_a_name_is_refused_at_its_head():
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "Spec": {}, "spec": None}
    assert {problem.field: problem.message for problem in schema_problems(manifest)} == {
        "apiVersion": "is 'v1' and must be vllm-operator.io/v1alpha1",
        "kind": "is 'Pod' and must be VLLMServer",
        "Spec": "unknown field; did you mean spec?",
        "metadata.name": "is required, as text",
        "spec": "is required; give at least model.id",
    }


def test_what_the_api_server_writes_is_not_looked_at():
    manifest = copy.deepcopy(MINIMAL)
    manifest["metadata"] |= {"uid": "1", "managedFields": []}
    manifest["status"] = {"anything": True}
    assert schema_problems(manifest) == []


def test_nulls_are_absent_fields_everywhere_but_inside_free_form_objects():
    spec = {
        "model": {**MODEL, "revision": None, "config": {"rope_scaling": None}},
        "engine": {"maxNumSeqs": None, "lora": None, "env": None},
        "parallelism": None,
        "replicas": None,
        "pod": {"labels": {"team": None}, "resources": {"requests": {"cpu": None}}},
    }
    manifest = server(spec)
    assert schema_problems(manifest) == []
    read = VLLMServer.model_validate(manifest).spec
    assert read.replicas == 1
    assert read.model.config == {"rope_scaling": None}
    assert read.engine is not None
    assert read.engine.env is None
    assert read.pod is not None
    assert read.pod.labels == {}
    assert read.pod.resources is not None
    assert read.pod.resources.requests == {}


def test_a_long_unknown_key_is_shortened_rather_than_failing():
    field, _ = only_problem(server({"model": MODEL, "x" * 5000: 1}))
    assert len(field) <= 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(spec=JSON, metadata=JSON)
def test_no_json_makes_the_check_fail_itself(spec: object, metadata: object):
    manifest = {**MINIMAL, "spec": spec, "metadata": metadata}
    assert schema_problems(manifest)


@given(data=st.data())
def test_any_json_at_any_field_is_a_problem_there_or_none(data: st.DataObject):
    manifest = copy.deepcopy(FULL)
    section = data.draw(st.sampled_from(sorted(manifest["spec"])))
    if isinstance(manifest["spec"][section], dict):
        name = data.draw(st.sampled_from(sorted(manifest["spec"][section])))
        manifest["spec"][section][name] = data.draw(JSON)
    else:
        manifest["spec"][section] = data.draw(JSON)
    for problem in schema_problems(manifest):
        assert problem.field == "spec" or problem.field.startswith(f"spec.{section}")


@pytest.mark.parametrize("path", ["/models/../etc", "/models/./qwen", "/..", "/...", "/a b"])
def test_a_folder_that_goes_up_or_stays_where_it_is_is_refused(path: str):
    storage = {"hostPath": {"path": path}}
    field, message = only_problem(server({"model": {**MODEL, "storage": storage}}))
    assert field == "spec.model.storage.hostPath.path"
    assert "without '.', '..' and spaces" in message


@pytest.mark.parametrize("value", [0, False, 0.0, [], {}], ids=repr)
@pytest.mark.parametrize(
    "where", [("pod", "nodeSelector"), ("pod", "labels"), ("pod", "annotations")], ids=".".join
)
def test_an_entry_of_a_map_that_is_as_good_as_nothing_is_still_none_of_its_type(
    where: tuple[str, str], value: object
):
    part, name = where
    manifest = server({"model": MODEL, part: {name: {"a": value}}})
    assert only_problem(manifest)[0] == f"spec.{part}.{name}.a"
