"""When a pod's events are read, and which of them is told, in the words of kubelets and plugins."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from support.observed import FAILED
from unit.engine.event_texts import EVENTS, SANDBOX, setup_failed
from vllm_operator.engine.failures import Failure
from vllm_operator.engine.versions import NEWEST_KNOWN
from vllm_operator.lifecycle.podevents import next_read, reads_due, told

NOON = datetime.fromisoformat("2026-01-01T12:00:00Z")
WAITS = replace(
    FAILED, unprepared=True, started_at="2026-01-01T12:00:00Z", ending=None, waiting_reason=""
)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def event(reason: str, note: str = "", at: float = 0, **more: Any) -> dict[str, Any]:
    seen = after(at).isoformat()
    return {"reason": reason, "note": note, "deprecatedLastTimestamp": seen, **more}


NO_SECRET = event("FailedMount", setup_failed("authority", 'secret "company-ca" not found'))
NO_MAP = event("FailedMount", setup_failed("files", 'configmap "chat" not found'), at=5)
LATE = event(
    "FailedMount",
    "Unable to attach or mount volumes: unmounted volumes=[authority], unattached volumes=[], "
    "failed to process volumes=[]: context deadline exceeded",
    at=60,
)


def said(*events: dict[str, Any]) -> Failure | None:
    return told(events, NEWEST_KNOWN)


@pytest.mark.parametrize(
    ("seconds", "reads"),
    [(0, 0), (19, 0), (20, 1), (39, 1), (40, 2), (80, 3), (160, 4), (320, 5), (619, 5), (620, 6)],
)
def test_events_are_read_ever_more_seldom_and_at_last_every_five_minutes(
    seconds: float, reads: int
) -> None:
    assert reads_due(WAITS, after(seconds)) == reads


def test_of_a_pod_whose_own_claim_is_yet_to_be_made_events_are_read_since_it_was_made() -> None:
    pod = replace(WAITS, scheduled=False, started_at=None, created_at="2026-01-01T12:00:00Z")
    assert [reads_due(pod, after(seconds)) for seconds in (19, 20, 40)] == [0, 1, 2]


@pytest.mark.parametrize(("seconds", "left"), [(0, 20), (20, 20), (50, 30), (330, 290)])
def test_the_next_visit_is_made_when_the_next_read_is_due(seconds: float, left: float) -> None:
    assert next_read([WAITS], after(seconds)) == left


@pytest.mark.parametrize(
    "pod",
    [
        replace(WAITS, unprepared=False),
        replace(WAITS, deleting=True),
        replace(WAITS, started_at=None, scheduled=True),
    ],
    ids=["prepared", "being deleted", "not yet its kubelet's"],
)
def test_no_events_are_read_of_a_pod_that_does_not_wait_for_its_node(pod: Any) -> None:
    assert reads_due(pod, after(600)) == 0
    assert next_read([pod], after(600)) is None


def test_a_sandbox_s_name_which_is_another_one_each_time_is_not_told() -> None:
    for reason, note, *_ in EVENTS:
        failure = said(event(reason, note))
        assert failure is not None
        assert SANDBOX not in failure.means


def test_a_volume_that_is_late_gives_way_to_the_failure_that_says_why() -> None:
    failure = said(NO_SECRET, LATE)
    assert failure is not None
    assert failure.reason == "SecretMissing"


def test_a_volume_that_is_late_is_told_where_nothing_says_why() -> None:
    failure = said(LATE)
    assert failure is not None
    assert failure.reason == "VolumeNotMounted"


def test_what_was_mended_long_before_is_no_cause_of_today() -> None:
    failure = said(NO_SECRET, event("FailedMount", LATE["note"], at=900))
    assert failure is not None
    assert failure.reason == "VolumeNotMounted"


def test_of_two_failures_the_newer_one_is_told() -> None:
    failure = said(NO_SECRET, NO_MAP)
    assert failure is not None
    assert failure.reason == "ConfigMapMissing"


def test_a_pod_that_has_gone_on_to_its_image_is_past_what_failed_before() -> None:
    assert said(NO_SECRET, event("Pulling", "Pulling image", at=10)) is None


def test_a_volume_that_was_attached_since_is_no_longer_in_use_elsewhere() -> None:
    in_use = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) qwen-1'
    since = event("SuccessfulAttachVolume", at=30)
    assert said(event("FailedAttachVolume", in_use), since) is None


def test_what_is_no_failure_of_the_node_s_is_passed_over() -> None:
    assert said(event("FailedToRetrieveImagePullSecret", "Unable to retrieve some secrets")) is None


@pytest.mark.parametrize(
    "when",
    [
        {"eventTime": after(90).isoformat()},
        {"series": {"lastObservedTime": after(90).isoformat()}},
        {"metadata": {"creationTimestamp": after(90).isoformat()}},
    ],
    ids=["events.k8s.io", "a series", "only its making"],
)
def test_an_event_s_time_is_read_however_it_was_recorded(when: dict[str, Any]) -> None:
    recorded = {key: NO_MAP[key] for key in ("reason", "note")} | when
    failure = said(event("FailedMount", LATE["note"], at=60), event("Pulling", at=80), recorded)
    assert failure is not None
    assert failure.reason == "ConfigMapMissing"
