"""How an engine ended, read from a pod's status as a kubelet writes it."""

from __future__ import annotations

from typing import Any

from vllm_operator.lifecycle.endings import Ending, ending_of

CREATED, STARTED, ENDED = "2026-01-01T10:00:00Z", "2026-01-01T10:00:05Z", "2026-01-01T10:01:00Z"
TERMINATED = {
    "exitCode": 1,
    "reason": "Error",
    "message": "ValueError: no",
    "startedAt": STARTED,
    "finishedAt": ENDED,
    "containerID": "containerd://1",
}


def pod(state: dict[str, Any], last: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    engine = {
        "name": "engine",
        "restartCount": more.get("restarts", 0),
        "state": state,
        "lastState": {"terminated": last} if last else {},
    }
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": more.get("ready", CREATED)}
    return {
        "status": {
            "startTime": CREATED,
            "containerStatuses": [*more.get("others", []), engine],
            "conditions": [ready],
        }
    }


def ending(*arguments: Any, **more: Any) -> Ending:
    found = ending_of(pod(*arguments, **more))
    assert found is not None
    return found


def test_an_engine_that_runs_for_the_first_time_never_ended() -> None:
    assert ending_of(pod({"running": {}})) is None


def test_an_engine_that_just_ended_has_its_log_in_the_container_of_now() -> None:
    found = ending({"terminated": TERMINATED})
    assert not found.previous
    assert found.ends == 1
    assert found.text == "exit code 1, reason Error, message ValueError: no"


def test_an_engine_that_ended_in_order_may_have_been_told_to_until_it_is_started_again() -> None:
    in_order = {**TERMINATED, "exitCode": 0, "reason": "Completed"}
    assert ending_of(pod({"terminated": in_order})) is None
    earlier = ending({"terminated": in_order}, TERMINATED, restarts=1)
    assert (earlier.text, earlier.previous, earlier.ends) == (
        "exit code 1, reason Error, message ValueError: no",
        True,
        1,
    )
    found = ending({"waiting": {"reason": "CrashLoopBackOff"}}, in_order)
    assert (found.previous, found.ends) == (True, 1)


def test_an_engine_that_waits_to_be_started_again_ended_once_more_than_it_was_restarted() -> None:
    found = ending({"waiting": {"reason": "CrashLoopBackOff"}}, TERMINATED, restarts=1)
    assert found.previous
    assert found.ends == 2


def test_an_engine_that_was_started_again_ended_as_often_as_it_was_restarted() -> None:
    assert ending({"running": {}}, TERMINATED, restarts=1).ends == 1


def test_an_engine_that_was_never_ready_did_not_serve() -> None:
    assert not ending({"running": {}}, TERMINATED, restarts=1).served


def test_an_engine_whose_pod_ceased_to_be_ready_by_its_end_had_served() -> None:
    assert ending({"terminated": TERMINATED}, ready=ENDED).served


def test_an_engine_that_failed_to_come_back_after_it_had_served_did_not_serve_in_that_life() -> (
    None
):
    again = {**TERMINATED, "startedAt": "2026-01-01T10:02:00Z", "containerID": "containerd://2"}
    assert not ending({"waiting": {}}, again, restarts=2, ready=ENDED).served


def test_an_engine_that_could_not_be_started_did_not_serve() -> None:
    never = {**TERMINATED, "reason": "StartError", "startedAt": "1970-01-01T00:00:00Z"}
    for ready in (CREATED, ENDED):  # never, and in a life before
        found = ending({"waiting": {}}, never, restarts=2, ready=ready)
        assert not found.served
        assert found.started is None


LOST = {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": None, "finishedAt": None}
"""As after its node was started again."""


def test_an_engine_that_its_kubelet_lost_had_served_where_its_pod_was_ready() -> None:
    assert ending({"waiting": {}}, LOST, restarts=1, ready=ENDED).served
    assert not ending({"waiting": {}}, LOST, restarts=1).served


def test_an_injected_container_is_not_taken_for_the_engine() -> None:
    sidecar = {"name": "proxy", "state": {"terminated": {**TERMINATED, "exitCode": 9}}}
    assert ending_of(pod({"running": {}}, others=[sidecar])) is None


def test_an_ending_says_when_that_life_began() -> None:
    assert ending({"running": {}}, TERMINATED, restarts=1).started == STARTED
    assert ending({"terminated": {"exitCode": 1, "startedAt": None}}).started is None
