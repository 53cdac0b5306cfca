"""The generated schema keeps the rules of structural schemas and our own."""

from collections.abc import Mapping
from typing import Any

import pytest

from unit.api.examples import FULL, OTHERS, nodes
from vllm_operator.api.base import ResourceModel
from vllm_operator.api.crd import custom_resource_definition, server_schema
from vllm_operator.api.fields import required
from vllm_operator.api.offline import field_paths, python_rules
from vllm_operator.api.patterns import MEANINGS
from vllm_operator.api.rules import RULES
from vllm_operator.api.schema import KEYWORDS, RULES_KEY, structural_schema

FLOATS = {
    "spec.engine.gpuMemoryUtilization": "vLLM's own unit, a fraction; percents lose 0.925",
    "spec.autotune.bounds.gpuMemoryUtilization.min": "as the pin that it bounds",
    "spec.autotune.bounds.gpuMemoryUtilization.max": "as the pin that it bounds",
    "spec.workload.draftAcceptance": "vLLM's own ratio, accepted over drafted tokens",
    "spec.gpu.memoryGiB": "the figure that nvidia-smi prints, 79.1",
    "status.plan.memory.utilization": "the fraction above",
    "status.plan.capacity.maxConcurrency.expected": "as vLLM prints it, 3.41x",
    "status.plan.capacity.maxConcurrency.low": "as vLLM prints it, 3.41x",
    "status.plan.performance.timeToFirstToken": "seconds",
    "status.plan.performance.interTokenLatency": "seconds",
    "status.plan.performance.outputTokensPerSecond": "a rate",
    "status.plan.performance.requestsPerSecond": "a rate",
    "status.plan.performance.napkinTokensPerSecond": "a rate",
    "status.plan.performance.outputTokensPerSecondPerRequest": "a rate",
    "status.plan.performance.correction.interTokenLatency": "a factor on seconds",
    "status.plan.performance.correction.outputTokensPerSecond": "a factor on a rate",
    "status.plan.performance.bounds.generating.share": "a share of a time",
    "status.plan.performance.bounds.prompts.share": "a share of a time",
    "status.plan.performance.drafts.acceptance": "the ratio above",
    "status.plan.performance.drafts.tokensPerStep": "a mean",
    "status.plan.performance.drafts.breakEvenAcceptance": "the ratio above",
    "status.plan.performance.drafts.answerShareAtBest": "a share of a time",
    "status.plan.performance.drafts.outputTokensPerSecondWithout": "a rate",
    "status.plan.performance.drafts.weightShare": "a share of bytes",
    "status.plan.performance.ranges.timeToFirstToken.low": "seconds",
    "status.plan.performance.ranges.timeToFirstToken.high": "seconds",
    "status.plan.performance.ranges.interTokenLatency.low": "seconds",
    "status.plan.performance.ranges.interTokenLatency.high": "seconds",
    "status.plan.performance.ranges.outputTokensPerSecond.low": "a rate",
    "status.plan.performance.ranges.outputTokensPerSecond.high": "a rate",
    "status.plan.cost.gpuHour": "a price",
    "status.plan.cost.hour": "a price",
    "status.plan.cost.millionOutputTokens": "a price",
    "status.plan.cost.millionTokens": "a price",
    "status.plan.startup.seconds": "seconds",
    "status.calibration.relativeError": "a ratio, as the metric",
    "status.plan.startup.budgetSeconds": "seconds",
    "status.tuning.curve.setting.gpuMemoryUtilization": "the fraction above",
    "status.tuning.trial.from.gpuMemoryUtilization": "the fraction above",
    "status.tuning.trial.to.gpuMemoryUtilization": "the fraction above",
    "status.tuning.history[].from.gpuMemoryUtilization": "the fraction above",
    "status.tuning.history[].to.gpuMemoryUtilization": "the fraction above",
}

THE_API_SERVERS_OWN = {"apiVersion", "kind", "metadata"}


def all_nodes() -> list[tuple[str, Mapping[str, Any]]]:
    members = server_schema()["properties"]
    return [node for part in ("spec", "status") for node in nodes(members[part], part)]


def is_integer_or_string(node: Mapping[str, Any]) -> bool:
    return bool(node.get("x-kubernetes-int-or-string"))


def test_every_node_has_one_type_and_only_known_keywords():
    for path, node in all_nodes():
        assert is_integer_or_string(node) != ("type" in node), path
        assert node.keys() <= set(KEYWORDS), path


def test_every_field_is_described_in_a_sentence():
    root = server_schema()
    assert root["properties"].keys() == THE_API_SERVERS_OWN | {"spec", "status"}
    for path, node in all_nodes():
        for name, member in node.get("properties", {}).items():
            description = member.get("description", "")
            assert description[:1].isupper(), f"{path}.{name}: {description!r}"
            assert description.endswith("."), f"{path}.{name}: {description!r}"


def test_every_number_has_both_bounds_and_a_format_that_holds_them():
    for path, node in all_nodes():
        if node.get("type") in ("integer", "number"):
            assert node["minimum"] < node["maximum"], path
            assert node["format"] in ("int32", "int64", "double"), path
        if node.get("format") == "int32":
            assert node["minimum"] >= -(2**31), path
            assert node["maximum"] < 2**31, path


def test_numbers_of_the_specification_declare_their_own_bounds():
    for path, node in nodes(server_schema()["properties"]["spec"], "spec"):
        if node.get("type") in ("integer", "number"):
            assert node["maximum"] < 2**53 - 1, path


def test_every_text_list_map_and_free_form_object_is_bounded():
    for path, node in all_nodes():
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node or node.get("format") == "date-time", path
        if is_integer_or_string(node):
            assert node["maxLength"] <= 32, path
            assert "pattern" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if "additionalProperties" in node or "x-kubernetes-preserve-unknown-fields" in node:
            assert "maxProperties" in node, path


def test_an_object_has_fields_or_values_or_is_free_form():
    for path, node in all_nodes():
        if node.get("type") == "object":
            shapes = ("properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields")
            assert sum(shape in node for shape in shapes) == 1, path


def test_every_list_says_how_it_merges():
    for path, node in all_nodes():
        if node.get("type") != "array":
            continue
        kind = node["x-kubernetes-list-type"]
        assert kind in ("atomic", "map"), path
        if kind == "map":
            keys = node["x-kubernetes-list-map-keys"]
            assert set(keys) <= set(node["items"]["required"]), path


def test_no_float_stands_anywhere_without_a_reason():
    assert {path for path, node in all_nodes() if node.get("type") == "number"} == FLOATS.keys()


def test_replicas_is_the_only_default():
    found = {path: node["default"] for path, node in all_nodes() if "default" in node}
    assert found == {"spec.replicas": 1}


def test_every_pattern_is_anchored_at_both_ends():
    for path, node in all_nodes():
        if "pattern" in node:
            assert node["pattern"].startswith("^"), path
            assert node["pattern"].endswith("$"), path


def test_every_pattern_has_a_meaning_in_words():
    patterns = {node["pattern"] for _, node in all_nodes() if "pattern" in node}
    assert patterns <= MEANINGS.keys()


def test_the_definition_shows_no_pattern_to_a_reader():
    schema = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    written = dict(nodes(schema, ""))
    assert [path for path, node in written.items() if "pattern" in node] == []
    assert written[".spec.model.id"][RULES_KEY][0]["message"].startswith("must be a repository of")


def test_every_rule_of_the_schema_has_a_python_counterpart_and_a_remedy():
    found = {
        entry["rule"]: entry["message"]
        for _, node in [("", server_schema()), *all_nodes()]
        for entry in node.get(RULES_KEY, [])
    }
    assert found.keys() == python_rules().keys()
    assert {rule.cel for rule in RULES} <= found.keys()
    remedies = ("remove", "keep", "set ", "choose", "use ", "lower", "raise")
    for message in found.values():
        assert any(remedy in message for remedy in remedies), message


def test_the_full_examples_set_every_field_that_is_not_of_a_later_release():
    def given(value: object, path: str) -> set[str]:
        if isinstance(value, dict):
            below = [given(member, f"{path}.{name}") for name, member in value.items()]
        elif isinstance(value, list):
            below = [given(item, f"{path}[]") for item in value]
        else:
            below = []
        return {path}.union(*below)

    known = set(field_paths())
    shown = known & set().union(*(given(one["spec"], "spec") for one in (FULL, *OTHERS)))
    refused = "setting it is refused"
    spec = dict(nodes(server_schema()["properties"]["spec"], "spec"))
    of_later = {path for path in known if refused in spec[path].get("description", "")}
    below_later = {path for path in known if any(path.startswith(f"{p}.") for p in of_later)}
    assert known - shown == of_later | below_later


def test_the_names_columns_and_subresources_are_those_of_the_contract():
    spec = custom_resource_definition()["spec"]
    (version,) = spec["versions"]
    assert spec["names"]["shortNames"] == ["vllm"]
    assert spec["names"]["categories"] == ["all"]
    columns = [
        (column["name"].upper(), column.get("priority", 0))
        for column in version["additionalPrinterColumns"]
    ]
    assert columns == [
        ("MODEL", 0), ("GPUS", 0), ("PARALLELISM", 0), ("VERSION", 0), ("READY", 0), ("STATUS", 0),
        ("AGE", 0), ("ENDPOINT", 1), ("AUTOTUNE", 1), ("TUNING", 1), ("MESSAGE", 1),
    ]  # fmt: skip
    assert version["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }


def test_a_type_that_kubernetes_has_no_schema_for_stops_the_generation():
    class Union(ResourceModel):
        value: int | bool = required("Either.")

    with pytest.raises(ValueError, match="no union"):
        structural_schema(Union, "spec")

    class Strict(ResourceModel):
        value: int = required("Below.", lt=5)

    with pytest.raises(ValueError, match=r"spec\.value: Kubernetes takes no exclusiveMaximum"):
        structural_schema(Strict, "spec")
