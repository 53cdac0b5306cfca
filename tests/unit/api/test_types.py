"""The pydantic types read whatever the schema allows, and say it back."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vllm_operator.api.offline import spec_schema, value_problems
from vllm_operator.api.quantity import parse_quantity
from vllm_operator.api.schema import RULES_KEY, structural_schema
from vllm_operator.api.status import VLLMServerStatus
from vllm_operator.api.v1alpha1 import VLLMServerSpec

FREE_FORM_VALUES = st.none() | st.integers(0, 9) | st.text(max_size=4) | st.lists(st.booleans())


def text_of(schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    least, most = schema.get("minLength", 0), min(schema.get("maxLength", 64), 64)
    if "pattern" not in schema:
        alphabet = st.characters(exclude_categories=["Cs"])
        return st.text(alphabet, min_size=least, max_size=most)
    pattern = re.compile(schema["pattern"], re.ASCII)
    return st.from_regex(pattern, fullmatch=True).filter(lambda text: least <= len(text) <= most)


def values_of(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema admits, but for its rules over several fields."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "x-kubernetes-int-or-string" in schema:
        return st.integers(0, 99) | text_of(schema)
    match schema["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "number":
            return st.floats(schema["minimum"], schema["maximum"])
        case "string" if schema.get("format") == "date-time":
            return st.just("2026-01-01T00:00:00Z")
        case "string":
            return text_of(schema)
        case "array":
            keys = schema.get("x-kubernetes-list-map-keys")
            unique = {"unique_by": tuple(lambda item, k=k: item[k] for k in keys)} if keys else {}
            return st.lists(values_of(schema["items"]), max_size=2, **unique)
    if "properties" not in schema:
        names = st.text("abc", min_size=1, max_size=3)
        values = schema.get("additionalProperties")
        return st.dictionaries(names, values_of(values) if values else FREE_FORM_VALUES, max_size=2)
    members = {name: values_of(member) for name, member in schema["properties"].items()}
    needed = {name: members.pop(name) for name in schema.get("required", [])}
    return st.fixed_dictionaries(needed, optional=members)


def without_rules(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: without_rules(member) for key, member in schema.items() if key != RULES_KEY}
    return schema


STATUS = structural_schema(VLLMServerStatus, "status")
PATIENT = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@PATIENT
@given(value=values_of(spec_schema()))
def test_a_specification_that_the_schema_admits_is_read_and_written_back(value: dict):
    schema = without_rules(spec_schema())
    assert list(value_problems(schema, value, "spec")) == []
    written = VLLMServerSpec.model_validate(value).to_json_object()
    assert list(value_problems(schema, written, "spec")) == []
    assert VLLMServerSpec.model_validate(written) == VLLMServerSpec.model_validate(value)
    assert written["model"]["id"] == value["model"]["id"]
    assert written["replicas"] == value.get("replicas", 1)


@PATIENT
@given(value=values_of(STATUS))
def test_a_status_that_we_write_is_admitted(value: dict):
    written = VLLMServerStatus.model_validate(value).to_json_object()
    assert list(value_problems(STATUS, written, "status")) == []


def test_a_newer_resource_is_read_by_ignoring_what_is_unknown():
    spec = VLLMServerSpec.model_validate(
        {"model": {"id": "a/b", "newer": 1}, "engine": {"newest": {}}, "new": True}
    )
    assert spec.to_json_object() == {"model": {"id": "a/b"}, "engine": {}, "replicas": 1}


@pytest.mark.parametrize("number", ["0.29", "0.9", "0.30000000000000004", "5e-2", "0.99"])
def test_a_fraction_is_kept_to_the_last_digit(number: str):
    spec = VLLMServerSpec.model_validate_json(
        f'{{"model": {{"id": "a/b"}}, "engine": {{"gpuMemoryUtilization": {number}}}}}'
    )
    assert spec.engine is not None
    assert spec.engine.gpu_memory_utilization == float(number)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (2, "2"), ("2", "2"), ("500m", "0.5"), ("0.5", "0.5"), ("1k", "1000"), ("1Ki", "1024"),
        ("1.5Gi", "1610612736"), ("1e3", "1000"), ("1E2", "100"), ("1E", "1e18"),
        ("1Ei", str(2**60)),
    ],
)  # fmt: skip
def test_a_quantity_is_read_as_kubernetes_reads_it(text: str | int, number: str):
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "1.", "-1", "1 Gi", "1KI", "Gi", "1e", "1ee2", "1\n"])
def test_what_is_no_quantity_is_refused(text: str):
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(text)
