"""Every field of a specification has a verdict for every target, and none is dropped silently."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from unit.manifests.elsewhere.support import ROOT, TARGETS, planned_of, refused, rendered
from vllm_operator.api.crd import CRD_NAME
from vllm_operator.manifests.elsewhere.fields import Target, given, row_of, rows


def leaves(schema: dict[str, Any], path: str) -> Iterator[str]:
    if schema.get("type") == "array":
        schema, path = schema["items"], f"{path}[]"
    members = schema.get("properties")
    if not members:
        yield path
    for name, member in (members or {}).items():
        yield from leaves(member, f"{path}.{name}")


def fields() -> list[str]:
    definition = yaml.safe_load((ROOT / "crds" / f"{CRD_NAME}.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return list(leaves(schema["spec"], "spec"))


FIELDS = fields()


@pytest.mark.parametrize("target", TARGETS)
def test_every_field_has_a_verdict(target: Target) -> None:
    assert [path for path in FIELDS if row_of(path, target) is None] == []


def test_no_row_names_a_field_that_is_none() -> None:
    known = {path[: place + 1] for path in FIELDS for place in range(len(path))}
    assert [row.field for row in rows() if row.field not in known] == []


def test_no_two_rows_speak_of_one_field_and_target() -> None:
    seen = [
        (row.field, target) for row in rows() for target in TARGETS if {"*", target} & row.targets
    ]
    assert len(seen) == len(set(seen))


def test_verdicts_are_three_and_all_but_what_is_kept_has_words() -> None:
    assert {row.verdict for row in rows()} == {"kept", "told", "refused"}
    assert [row.field for row in rows() if bool(row.words) == (row.verdict == "kept")] == []


def test_targets_are_spelt_as_they_are() -> None:
    assert set().union(*(row.targets for row in rows())) <= {"*", *TARGETS}


def test_words_end_without_a_stop_and_hold_no_newline() -> None:
    assert [row.words for row in rows() if row.words.endswith(".") or "\n" in row.words] == []


def test_a_field_of_its_own_row_goes_before_the_one_above_it() -> None:
    row = row_of("spec.model.storage.image.pullPolicy", "compose")
    assert row is not None
    assert row.field == "spec.model.storage.image.pullPolicy"


def test_a_name_that_begins_alike_is_another_field() -> None:
    assert row_of("spec.modelling", "compose") is None


def test_what_holds_anyhow_is_not_given() -> None:
    spec = planned_of(pod={"automountServiceAccountToken": False}).server.spec
    assert set(given(spec)) == {"spec.model.id", "spec.gpu.product", "spec.gpu.perNode"}


TOLD = {
    "spec.replicas": {"replicas": 2},
    "spec.workload.slo": {"workload": {"slo": {"timeToFirstTokenMilliseconds": 500}}},
    "spec.rollout.strategy": {"rollout": {"strategy": "InPlace"}},
    "spec.pod.labels": {"pod": {"labels": {"team": "a"}}},
    "spec.pod.nodeSelector": {"pod": {"nodeSelector": {"zone": "a"}}},
    "spec.pod.serviceAccountName": {"pod": {"serviceAccountName": "bucket"}},
    "spec.pod.imagePullSecrets": {"pod": {"imagePullSecrets": [{"name": "registry"}]}},
    "spec.autotune": {"autotune": {"mode": "Recommend"}},
    "spec.paused": {"paused": True},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("field", TOLD)
def test_what_has_no_counterpart_is_told_by_its_field(field: str, target: Target) -> None:
    text = rendered(target, **TOLD[field]).replace("\n#   ", " ")
    assert text.count(f"# Not as in Kubernetes: {field}: ") == 1
    assert f"{field}: " not in rendered(target)


@pytest.mark.parametrize("target", TARGETS)
def test_what_watches_a_running_server_is_told_though_nobody_asked_for_it(target: Target) -> None:
    assert "# Not as in Kubernetes: spec.rollout.livenessBudgetSeconds: " in rendered(target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("field", ["initContainers", "containers"])
def test_containers_beside_the_engine_are_refused_with_what_works(
    field: str, target: Target
) -> None:
    where, why = refused(target, pod={field: [{"name": "side", "image": "side:1"}]})
    assert where == f"spec.pod.{field}"
    assert why.startswith(f"{target} runs the engine alone")
    assert why.endswith("or render --target kubernetes")


@pytest.mark.parametrize("target", ["systemd", "shell"])
def test_a_checkpoint_in_an_image_is_refused_where_nothing_mounts_images(target: Target) -> None:
    storage = {"image": {"reference": "models/qwen:1"}}
    field, why = refused(target, {"id": "meta-llama/Llama-3.1-8B-Instruct", "storage": storage})
    assert field == "spec.model.storage.image"
    assert "--target compose, podman-quadlet or kubernetes" in why
