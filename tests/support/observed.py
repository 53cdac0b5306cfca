"""What a visit sees of one server, for tests to change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from vllm_operator.lifecycle.endings import Ending
from vllm_operator.lifecycle.records import ChildRecord, PodRecord
from vllm_operator.lifecycle.revisions import Pinned

from .builders import make_server, make_sized

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEPLOYMENT = ChildRecord(
    namespace="default",
    name="qwen",
    uid="d",
    resource_version="1",
    kind="Deployment",
    controller_uid="uid-1",
    applied_hash="h",
    owned_fields="f",
    generation=1,
    observed_generation=1,
    spec_replicas=1,
    replicas=1,
    updated_replicas=1,
    ready_replicas=1,
    available_replicas=1,
)
POD = PodRecord(
    namespace="default",
    name="qwen-1",
    uid="p",
    resource_version="1",
    template_hash="a",
    template="1-a",
    deleting=False,
    scheduled=True,
    unschedulable_since=None,
    unschedulable_message="",
    ready=False,
    waiting_reason="",
    waiting_message="",
    last_exit="",
    restarts=0,
    started_at=NOW.isoformat(),
    failed=False,
)
PLAN = Pinned(
    name="qwen-1",
    uid="r1",
    revision=1,
    spec=make_server().spec,
    replan=None,
    release="",
    inputs={},
    sized=make_sized(),
    objects=(),
    template="1-a",
    created_at="2026-01-01T10:00:00Z",
)
ENDING = Ending("1", "exit code 1, reason Error", "", "engine", True, False, 1)
FAILED = replace(POD, created_at="2026-01-01T10:00:01Z", ending=ENDING)
