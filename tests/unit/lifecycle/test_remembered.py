"""What is remembered of a status."""

from __future__ import annotations

from support.builders import server_manifest
from vllm_operator.lifecycle.remembered import Remembered, read_server


def test_of_a_status_that_cannot_be_read_the_plan_of_the_last_good_days_is_remembered() -> None:
    status = {"conditions": "of another release", "latestReadyRevision": "qwen-3"}
    found = Remembered.from_status(status)
    assert found.status.latest_ready_revision == "qwen-3"
    assert found.status.conditions == []


def test_nothing_is_remembered_of_no_status() -> None:
    found = Remembered.from_status(None)
    assert (found.inputs_hash, found.product, found.image, found.down_since) == (None,) * 4


def test_what_the_last_plan_ran_on_is_remembered_without_the_plan() -> None:
    plan = {
        "inputsHash": "h",
        "placement": {"gpu": "NVIDIA-L4"},
        "engine": {"image": "vllm/vllm-openai:v0.30.0"},
    }
    found = Remembered.from_status({"plan": plan})
    assert (found.inputs_hash, found.product) == ("h", "NVIDIA-L4")
    assert found.image == "vllm/vllm-openai:v0.30.0"
    assert found.status.plan is None


def test_a_stored_name_that_is_not_allowed_any_more_is_told_in_words() -> None:
    body = server_manifest("qwen", "default", model={"id": "ftp://bucket/qwen"})
    _, (problem,) = read_server(body)
    assert problem.message.startswith("must be a repository of the Hugging Face Hub, such as ")
