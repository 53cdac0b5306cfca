"""Stories of engines that do not start: each failure that the scripted engine can play.

The table of docs/stories.md has a row each. After the reason is said, an edit that takes the cause
away is enough.
"""

from __future__ import annotations

from typing import Any

import pytest

from stories.life import EMPTY, PATIENCE, Life
from support.world import flag

LIMIT = {"pod": {"resources": {"limits": {"memory": "256Mi"}}}}
LOADS = {"SCRIPTED_BOOT_SECONDS": "1.5"}
"""Pods' ages are whole seconds: what fails within one cannot be told from what came after it."""

STOPS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    # play, reason, engine, the rest of the specification
    ("kv-cache-too-small", "KVCacheTooSmall", {"maxModelLen": 32768}, {}),
    ("no-kv-cache", "KVCacheTooSmall", {"maxNumSeqs": 64, "gpuMemoryUtilization": 0.9}, {}),
    ("oom-weights", "GPUOutOfMemory", {"gpuMemoryUtilization": 0.9}, {}),
    ("oom-sampler", "GPUOutOfMemory", {"maxNumSeqs": 64}, {}),
    ("unrecognized-argument", "ArgumentRefused", {}, {}),
    ("illegal-tensor-parallel", "IllegalParallelism", {}, {}),
    ("max-model-len-too-long", "MaxModelLenTooLong", {}, {}),
    ("missing-model", "ModelNotFound", {}, {}),
    ("quantization-unsupported", "QuantizationUnsupported", {}, {}),
    ("bfloat16-unsupported", "DtypeUnsupported", {}, {}),
    ("oom-killed", "OOMKilled", {}, LIMIT),
]
PASSES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("free-memory", "GPUMemoryTaken", {"gpuMemoryUtilization": 0.9}, {}),
    ("gated-model", "ModelAccessDenied", {}, {}),
    ("forbidden-model", "ModelAccessDenied", {}, {}),
    ("offline-model", "ModelNotFound", {}, {}),
    ("token-without-gated-models", "ModelAccessDenied", {}, {}),
    ("rate-limited-hub", "HubRateLimited", {}, {}),
    ("untrusted-certificate", "HubCertificateUntrusted", {}, {}),
    ("proxy-with-a-password", "ProxyDenied", {}, {}),
    ("xet-unreachable", "XetFailed", {}, {}),
    ("killed", "EngineFailed", {}, {}),
    # It ends at SIGTERM and says nothing: of a vLLM that does, StartedTooSlowly is found out.
    ("hang", "EngineFailed", {}, {"rollout": {"startupBudgetSeconds": 60}}),
]


@pytest.mark.parametrize(
    ("play", "reason", "engine", "spec"), STOPS, ids=[case[0] for case in STOPS]
)
def test_a_failure_that_only_an_edit_mends_stops(
    life: Life, play: str, reason: str, engine: dict[str, Any], spec: dict[str, Any]
) -> None:
    life.serve(engine=engine, play={"SCRIPTED_PLAY": play}, **spec)
    life.sees(f"Progressing=False {reason}")
    life.sees(f"Stalled=True {reason}", "its pods are no longer started")
    life.world.wait(lambda: not life.pods(), "no pods", PATIENCE)
    life.serve(engine=engine)
    life.ready()
    life.ends_as_told()


def test_an_image_without_vllm_is_never_taken_for_one_that_served(life: Life) -> None:
    life.serve(engine={"image": EMPTY})
    life.sees("Progressing=False ImageUnusable", "the image cannot run vLLM")
    life.sees("Stalled=True ImageUnusable", "its pods are no longer started")
    life.world.wait(lambda: not life.pods(), "no pods", PATIENCE)
    life.serve()
    life.ready()
    life.ends_as_told()


@pytest.mark.parametrize(
    ("play", "reason", "engine", "spec"), PASSES, ids=[case[0] for case in PASSES]
)
def test_a_failure_that_may_pass_by_itself_is_waited_for(
    life: Life, play: str, reason: str, engine: dict[str, Any], spec: dict[str, Any]
) -> None:
    life.serve(engine=engine, play={"SCRIPTED_PLAY": play}, **spec)
    life.sees(f"Progressing=True {reason}")
    life.serve(engine=engine)
    life.ready()
    life.ends_as_told()


def test_a_cache_that_is_too_small_is_repaired_by_shorter_requests(life: Life) -> None:
    life.serve(play={"SCRIPTED_KV_TOKENS": "20000", **LOADS})
    life.ready()
    assert flag(life.world.args(), "--max-model-len") == "19456"
    life.ends_as_told()


def test_memory_that_somebody_else_holds_is_repaired_by_a_lower_utilization(life: Life) -> None:
    life.serve(play={"SCRIPTED_FREE_GIB": "70", **LOADS})
    life.ready()
    life.ends_as_told()


def test_a_warm_up_out_of_memory_is_repaired_by_fewer_sequences(life: Life) -> None:
    life.serve(play={"SCRIPTED_MAX_SEQS": "512", **LOADS})
    life.ready()
    life.ends_as_told()


def test_a_stopped_server_is_tried_again_when_it_is_asked_to(life: Life) -> None:
    life.serve(engine={"env": life.plays("quantization-unsupported")})
    life.sees("Stalled=True QuantizationUnsupported", "vllm-operator.io/replan")
    life.world.wait(lambda: not life.pods(), "no pods", PATIENCE)
    life.plays("")
    annotation = {"metadata": {"annotations": {"vllm-operator.io/replan": "now"}}}
    life.world.patch("VLLMServer", "qwen", annotation)
    life.ready()
    life.ends_as_told()


def test_three_repairs_that_do_not_help_are_the_last(life: Life) -> None:
    life.serve(play={"SCRIPTED_PLAY": "no-kv-cache", **LOADS})
    life.sees("Stalled=True KVCacheTooSmall", "3 repairs of the plan have not helped")
    life.serve()
    life.ready()
    life.ends_as_told()
