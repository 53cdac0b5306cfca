"""What a new plan takes over of what was learned, and what of it an edit keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.builders import make_server
from support.observed import PLAN
from unit.api.examples import FULL, OTHERS
from vllm_operator.api.offline import spec_schema
from vllm_operator.lifecycle.learned import Learned, taken_over
from vllm_operator.lifecycle.revisions import Abandoned
from vllm_operator.sizing.asked.repairs import Repair
from vllm_operator.sizing.asked.tuned import Tuned

REPAIR = Repair("fewerSequences", 64, "it did not fit")
LEARNED = Learned((REPAIR,))
IN_FORCE = replace(PLAN, inputs={"repairs": [REPAIR.to_json_object()]})


@pytest.mark.parametrize(
    "edit",
    [
        {"pod": {"labels": {"a": "b"}}},
        {"replicas": 3},
        {"rollout": {"drainSeconds": 5}},
        {"workload": {"slo": {"interTokenLatencyMilliseconds": 30}}},
        {"autotune": {"mode": "Recommend"}},
    ],
)
def test_an_edit_of_what_no_engine_starts_with_keeps_repairs(edit: dict[str, Any]) -> None:
    assert LEARNED.after(make_server().spec, make_server(**edit).spec) == LEARNED
    assert taken_over(make_server(**edit), IN_FORCE) == LEARNED


@pytest.mark.parametrize(
    "edit",
    [
        {"model": {"id": "c/d"}},
        {"gpu": {"product": "H200"}},
        {"parallelism": {"tensor": 2}},
        {"engine": {"maxNumSeqs": 8}},
        {"workload": {"concurrency": 8}},
    ],
)
def test_an_edit_of_what_the_engine_starts_with_begins_afresh(edit: dict[str, Any]) -> None:
    assert LEARNED.after(make_server().spec, make_server(**edit).spec) == Learned()
    assert taken_over(make_server(**edit), IN_FORCE) == Learned()


def test_a_plan_that_is_asked_for_outright_begins_afresh() -> None:
    server = make_server()
    server.metadata.annotations["vllm-operator.io/replan"] = "now"
    assert taken_over(server, IN_FORCE) == Learned()


@pytest.mark.parametrize(("stopped", "kept"), [(True, Learned()), (False, LEARNED)])
def test_repairs_that_did_not_help_are_dropped_and_those_of_a_plan_that_serves_stay(
    stopped: bool, kept: Learned
) -> None:
    given_up = Abandoned(make_server().spec, None, "OOMKilled", "too little", stopped, "")
    assert taken_over(make_server(), replace(IN_FORCE, abandoned=given_up)) == kept


def test_nothing_in_force_has_learned_nothing() -> None:
    assert taken_over(make_server(), None) == Learned()


TUNED = Tuned("tokens come too late", max_num_seqs=96, max_model_len=8192)
KEPT = {
    "model.id": False,
    "model.revision": False,
    "model.servedName": True,
    "model.additionalServedNames": True,
    "model.tokenSecretRef": True,
    "model.trustRemoteCode": False,
    "model.config": False,
    "model.configMapRef": False,
    "model.weightBytes": False,
    "model.storage": True,
    "engine.image": False,
    "engine.version": False,
    "engine.maxModelLen": True,
    "engine.maxNumSeqs": True,
    "engine.maxNumActiveSeqs": True,
    "engine.maxNumBatchedTokens": True,
    "engine.gpuMemoryUtilization": True,
    "engine.dtype": True,
    "engine.quantization": True,
    "engine.kvCacheDtype": True,
    "engine.blockSize": True,
    "engine.enforceEager": True,
    "engine.prefixCaching": True,
    "engine.chunkedPrefill": True,
    "engine.speculative": True,
    "engine.lora": True,
    "engine.toolCallParser": True,
    "engine.reasoningParser": True,
    "engine.apiKeySecretRef": True,
    "engine.extraArgs": True,
    "engine.env": True,
    "gpu.product": False,
    "gpu.memoryGiB": False,
    "gpu.perNode": False,
    "gpu.resourceName": False,
    "parallelism.tensor": False,
    "parallelism.pipeline": False,
    "parallelism.data": False,
    "parallelism.expert": False,
    "workload.profile": False,
    "workload.promptTokens": False,
    "workload.sharedPrefixTokens": False,
    "workload.outputTokens": False,
    "workload.concurrency": False,
    "workload.draftAcceptance": False,
    "workload.slo": True,
    "replicas": True,
    "rollout": True,
    "pod": True,
    "routing": True,
    "autotune": True,
    "paused": True,
}
"""Whether an edit of each field keeps what was tuned."""


def test_every_field_of_the_specification_has_a_row() -> None:
    sections = {path.partition(".")[0] for path in KEPT if "." in path}
    fields = [
        f"{name}.{member}" if name in sections else name
        for name, node in spec_schema()["properties"].items()
        for member in (node.get("properties", {}) if name in sections else [""])
    ]
    assert list(KEPT) == fields


@pytest.mark.parametrize("path", KEPT)
def test_what_an_edit_of_each_field_keeps_of_what_was_tuned(path: str) -> None:
    section, _, member = path.rpartition(".")
    examples = [one["spec"] for one in (FULL, *OTHERS)]
    parts = [one.get(section, {}) if section else one for one in examples]
    value = "another/model" if path == "model.id" else next(p[member] for p in parts if member in p)
    edit: dict[str, Any] = {section: {member: value}} if section else {member: value}
    if section == "model" and member != "id":
        edit["model"]["id"] = "Qwen/Qwen2.5-7B-Instruct"
    in_force = replace(PLAN, inputs={"tuned": TUNED.to_json_object()})
    kept = taken_over(make_server(**edit), in_force).tuned
    assert (kept and kept.max_num_seqs) == (96 if KEPT[path] else None)


def test_how_long_requests_may_be_is_planned_anew_where_the_engine_is_another() -> None:
    learned = Learned(tuned=TUNED)
    plain, eager, pod = (
        make_server(**spec).spec
        for spec in ({}, {"engine": {"enforceEager": True}}, {"replicas": 2})
    )
    assert learned.after(plain, eager).tuned == replace(TUNED, max_model_len=None)
    assert learned.after(plain, pod).tuned == TUNED
