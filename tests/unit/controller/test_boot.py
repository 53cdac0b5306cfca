"""Why pods do not start: of which pods, read how often, and said how steadily."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from support.observed import DEPLOYMENT, ENDING, FAILED, PLAN
from vllm_operator.controller.boot import BootReader
from vllm_operator.controller.client import Client, last_bytes
from vllm_operator.controller.metrics import Metrics
from vllm_operator.controller.store import ChildRecord, PodRecord
from vllm_operator.errors import ApiError
from vllm_operator.lifecycle.reading import pod_record
from vllm_operator.lifecycle.recovery import Diagnosis
from vllm_operator.lifecycle.revisions import Pinned

KEY = ("default", "qwen")
NOW = datetime.fromisoformat("2026-01-01T10:10:00Z")
STARTED = "2026-01-01T10:00:05Z"
JUST_ENDED = replace(ENDING, previous=False, started=STARTED)
TOO_SMALL = (
    "ValueError: To serve at least one request with the model's max seq len (32768), (4.0 GiB KV "
    "cache is needed, which is larger than the available KV cache memory ({left} GiB). Based on "
    "the available memory, the estimated maximum model length is 20000. "
)
TAKEN = (
    "ValueError: Free memory on device cuda:0 (60.11/79.18 GiB) on startup is less than desired "
    "GPU memory utilization (0.92, 72.85 GiB)."
)


class Logs:
    """Stands for the API server's pods/log: one text after the other, or an error."""

    def __init__(self, *texts: str | Exception) -> None:
        self.texts = list(texts)
        self.asked: list[dict[str, Any]] = []

    async def log(self, namespace: str, pod: str, container: str, **options: Any) -> str:
        self.asked.append({"pod": pod, "container": container, **options})
        text = self.texts.pop(0)
        if isinstance(text, Exception):
            raise text
        return text


def reader(*texts: str | Exception) -> tuple[BootReader, Logs]:
    logs = Logs(*texts)
    return BootReader(cast(Client, logs)), logs


async def look(
    boot: BootReader,
    *pods: PodRecord,
    deployment: ChildRecord = DEPLOYMENT,
    plan: Pinned = PLAN,
    now: datetime = NOW,
) -> Diagnosis:
    found = await boot.diagnose(KEY, plan, deployment, pods, now)
    assert found is not None
    return found


async def test_the_log_of_the_container_that_ended_tells_why() -> None:
    boot, logs = reader(TOO_SMALL.format(left="2.4"))
    assert (await look(boot, FAILED)).failure.reason == "KVCacheTooSmall"
    assert logs.asked[0]["previous"] is True
    assert logs.asked[0]["container"] == "engine"


async def test_of_a_log_so_much_is_asked_for_and_no_longer_waited_for_than_a_visit_bears() -> None:
    boot, logs = reader(TOO_SMALL.format(left="2.4"))
    await look(boot, FAILED)
    assert logs.asked[0] == {
        "pod": "qwen-1",
        "container": ENDING.container,
        "previous": True,
        "lines": 1000,
        "limit": 262_144,
        "seconds": 5.0,
        "since": None,
    }


async def test_of_many_replicas_the_logs_of_three_are_read() -> None:
    boot, logs = reader(*[TOO_SMALL.format(left="2.4")] * 4)
    await look(boot, *(replace(FAILED, name=name, uid=name) for name in "abcd"))
    assert [asked["pod"] for asked in logs.asked] == ["a", "b", "c"]


async def test_the_log_of_an_end_is_read_once() -> None:
    boot, logs = reader(TOO_SMALL.format(left="2.4"))
    for _ in range(3):
        await look(boot, FAILED)
    assert len(logs.asked) == 1


async def test_a_failure_stands_while_the_engine_is_being_started_again() -> None:
    boot, _ = reader(TOO_SMALL.format(left="2.4"))
    await look(boot, replace(FAILED, waiting_reason="CrashLoopBackOff"))
    assert (await look(boot, FAILED)).failure.reason == "KVCacheTooSmall"


async def test_two_starts_that_fail_alike_say_the_same() -> None:
    boot, _ = reader(TOO_SMALL.format(left="2.4"), TOO_SMALL.format(left="2.3"))
    first = await look(boot, FAILED)
    again = replace(FAILED, ending=replace(ENDING, id="2", ends=2))
    second = await look(boot, again)
    assert second.failure.message == first.failure.message
    assert second.ends == 2


async def test_what_the_end_of_one_start_does_to_the_next_is_no_news() -> None:
    boot, _ = reader(TOO_SMALL.format(left="2.4"), TAKEN)
    await look(boot, FAILED)
    again = replace(FAILED, ending=replace(ENDING, id="2", ends=2))
    assert (await look(boot, again)).failure.reason == "KVCacheTooSmall"


async def test_a_new_plan_is_judged_by_itself() -> None:
    boot, _ = reader(TOO_SMALL.format(left="2.4"), TAKEN)
    await look(boot, FAILED)
    other = replace(FAILED, uid="p2", ending=replace(ENDING, id="2"))
    found = await look(boot, other, plan=replace(PLAN, uid="r2"))
    assert found.failure.reason == "GPUMemoryTaken"


async def test_a_server_whose_pods_load_for_the_first_time_has_no_failure() -> None:
    boot, _ = reader()
    assert await boot.diagnose(KEY, PLAN, DEPLOYMENT, [replace(FAILED, ending=None)], NOW) is None


async def test_a_ready_pod_that_once_failed_has_no_failure() -> None:
    boot, _ = reader()
    assert await boot.diagnose(KEY, PLAN, DEPLOYMENT, [replace(FAILED, ready=True)], NOW) is None


@pytest.mark.parametrize("code", [403, 404, 500])
async def test_a_log_that_cannot_be_read_leaves_the_termination_message(code: int) -> None:
    boot, _ = reader(ApiError(code, "", ""))
    pod = replace(FAILED, ending=replace(ENDING, message=TAKEN))
    assert (await look(boot, pod)).failure.reason == "GPUMemoryTaken"


async def test_a_log_that_nothing_served_is_asked_for_again() -> None:
    boot, logs = reader(ApiError(502, "", ""), TOO_SMALL.format(left="2.4"))
    assert (await look(boot, FAILED)).failure.reason == "EngineFailed"
    assert (await look(boot, FAILED)).failure.reason == "KVCacheTooSmall"
    assert len(logs.asked) == 2


NO_PREVIOUS = ApiError(400, "BadRequest", "previous terminated container not found")
STARTS_AGAIN = (
    "WARNING '[Errno -2]' Failed to resolve 'huggingface.co' thrown while requesting HEAD"
)
JUST_FAILED = replace(FAILED, ending=JUST_ENDED)


async def test_the_log_of_a_container_that_just_ended_is_read_once() -> None:
    boot, logs = reader(TOO_SMALL.format(left="2.4"))
    for _ in range(2):
        assert (await look(boot, JUST_FAILED)).failure.reason == "KVCacheTooSmall"
    assert [asked["previous"] for asked in logs.asked] == [False]


@pytest.mark.parametrize(
    "answer",
    ["", "INFO vLLM API server version 0.30.0\n", STARTS_AGAIN, ApiError(400, "BadRequest", "")],
    ids=["empty", "the next start's", "the next start's with a warning", "400"],
)
async def test_a_container_that_was_started_again_meanwhile_is_judged_by_the_log_before(
    answer: str | ApiError,
) -> None:
    boot, logs = reader(answer, TOO_SMALL.format(left="2.4"))
    for _ in range(2):
        assert (await look(boot, JUST_FAILED)).failure.reason == "KVCacheTooSmall"
    assert [asked["previous"] for asked in logs.asked] == [False, True]


async def test_the_log_before_is_asked_for_only_from_the_start_of_the_life_that_ended() -> None:
    boot, logs = reader("", TOO_SMALL.format(left="2.4"))
    await look(boot, JUST_FAILED)
    assert [asked["since"] for asked in logs.asked] == [None, STARTED]


async def test_an_unknown_failure_of_the_log_before_is_settled() -> None:
    boot, logs = reader("INFO vLLM API server", "ValueError: nobody knows this")
    for _ in range(2):
        assert "nobody knows this" in (await look(boot, JUST_FAILED)).failure.message
    assert len(logs.asked) == 2


async def test_an_unknown_failure_is_looked_into_again_once_its_container_is_the_one_before() -> (
    None
):
    boot, _ = reader("ValueError: odd", NO_PREVIOUS, TOO_SMALL.format(left="2.4"))
    assert (await look(boot, JUST_FAILED)).failure.reason == "EngineFailed"
    assert (await look(boot, FAILED)).failure.reason == "KVCacheTooSmall"


async def test_an_unknown_failure_is_looked_into_again_at_the_next_visit() -> None:
    boot, _ = reader("ValueError: odd", NO_PREVIOUS, "", TOO_SMALL.format(left="2.4"))
    assert "ValueError: odd" in (await look(boot, JUST_FAILED)).failure.message
    assert (await look(boot, JUST_FAILED)).failure.reason == "KVCacheTooSmall"


async def test_an_unknown_failure_is_not_looked_into_for_ever() -> None:
    boot, logs = reader(*["ValueError: odd", NO_PREVIOUS] * 3, TOO_SMALL.format(left="2.4"))
    for _ in range(6):
        assert (await look(boot, JUST_FAILED)).failure.reason == "EngineFailed"
    assert len(logs.asked) == 6
    assert (await look(boot, FAILED)).failure.reason == "KVCacheTooSmall"


async def test_each_end_of_a_pod_is_looked_into_three_times_before_its_failure_stands() -> None:
    boot, logs = reader(*["ValueError: odd", NO_PREVIOUS] * 6)
    for end in ("containerd://1", "containerd://2"):
        ended = replace(JUST_FAILED, ending=replace(JUST_ENDED, id=end))
        for _ in range(5):
            await look(boot, ended)
    assert len(logs.asked) == 12


async def test_a_weak_failure_stands_where_there_is_no_log_before() -> None:
    boot, _ = reader(STARTS_AGAIN, NO_PREVIOUS)
    assert (await look(boot, JUST_FAILED)).failure.reason == "HubUnreachable"


@pytest.mark.parametrize("code", [403, 404, 502])
async def test_a_log_that_is_not_to_be_had_is_not_asked_for_in_another_way(code: int) -> None:
    boot, logs = reader(ApiError(code, "", ""))
    assert (await look(boot, JUST_FAILED)).failure.reason == "EngineFailed"
    assert len(logs.asked) == 1


async def test_of_a_long_log_the_end_is_kept() -> None:
    asked: dict[str, str] = {}

    async def log(request: web.Request) -> web.Response:
        asked.update(request.query)
        return web.Response(text="x" * 400_000 + "the cause")

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/default/pods/qwen-1/log", log)
    async with TestServer(app) as server:
        configuration = Configuration()
        configuration.host = str(server.make_url("")).rstrip("/")
        client = Client(ApiClient(configuration=configuration), Metrics())
        text = await client.log(
            "default", "qwen-1", "engine", previous=True, lines=9, limit=1000, seconds=5
        )
        await client.close()
    assert text == "x" * 991 + "the cause"
    assert asked == {"container": "engine", "tailLines": "9", "previous": "true"}


async def test_a_log_without_end_is_not_read_for_ever() -> None:
    came = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal came
        while True:
            came += 1
            yield b"%09d\n" % came

    assert await last_bytes(chunks(), keep=20, most=1000) == b"000000099\n000000100\n"
    assert came == 100


async def test_an_exit_that_says_all_needs_no_log() -> None:
    boot, logs = reader()
    pod = replace(FAILED, ending=replace(ENDING, text="exit code 137, reason OOMKilled"))
    assert (await look(boot, pod)).failure.reason == "OOMKilled"
    assert logs.asked == []


async def test_an_engine_that_had_served_crashed_and_is_never_repaired() -> None:
    boot, _ = reader("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB. GPU")
    found = await look(boot, replace(FAILED, ending=replace(ENDING, served=True)))
    assert found.failure.reason == "GPUOutOfMemory"
    assert "crashed while it served" in found.failure.message
    assert found.failure.passes
    assert found.failure.repair == "none"


async def test_a_crash_that_nobody_knows_shows_its_last_error() -> None:
    boot, _ = reader("vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.")
    found = await look(boot, replace(FAILED, ending=replace(ENDING, served=True)))
    assert found.failure.reason == "EngineCrashed"
    assert "EngineDeadError" in found.failure.message


NO_VLLM = 'runc create failed: exec: "vllm": executable file not found in $PATH'
NEVER_STARTED = {
    "exitCode": 128,
    "reason": "StartError",
    "message": NO_VLLM,
    "startedAt": "1970-01-01T00:00:00Z",
    "finishedAt": "2026-01-01T10:00:03Z",
}


def unstarted(waiting: dict[str, str] | None, restarts: int) -> PodRecord:
    """A pod as a kubelet describes it whose container the runtime cannot start."""
    now = {"waiting": waiting} if waiting else {"terminated": NEVER_STARTED}
    before = {"terminated": NEVER_STARTED} if waiting else {}
    engine = {"name": "engine", "restartCount": restarts, "state": now, "lastState": before}
    created = "2026-01-01T10:00:01Z"
    metadata = {"namespace": "default", "name": "qwen-1", "uid": "p", "creationTimestamp": created}
    metadata["labels"] = {"vllm-operator.io/template": PLAN.template}
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": created}
    return pod_record(
        {
            "metadata": metadata,
            "spec": {"nodeName": "n"},
            "status": {
                "startTime": created,
                "conditions": [ready],
                "containerStatuses": [engine],
            },
        }
    )


async def test_a_container_that_cannot_be_started_is_told_alike_whatever_it_waits_for() -> None:
    failed = {"reason": "RunContainerError", "message": NO_VLLM}
    back_off = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed"}
    boot, _ = reader()
    found = [
        await look(boot, pod)
        for pod in (
            unstarted(failed, 0),
            unstarted(None, 0),
            unstarted(failed, 1),
            unstarted(back_off, 1),
            unstarted(failed, 2),
        )
    ]
    assert {one.failure.reason for one in found} == {"ImageUnusable"}
    assert {one.failure.message for one in found} == {found[0].failure.message}
    assert {(one.failure.passes, one.served) for one in found} == {(False, False)}
    assert [one.ends for one in found] == [1, 1, 2, 2, 3]


async def test_a_quota_is_told_where_there_is_no_pod() -> None:
    boot, _ = reader()
    message = 'pods "q" is forbidden: exceeded quota: gpus, requested: g=2, used: g=7, limited: g=8'
    found = await look(boot, deployment=replace(DEPLOYMENT, message=message))
    assert found.failure.reason == "QuotaExceeded"


async def test_a_missing_claim_is_told_in_the_scheduler_s_place() -> None:
    boot, _ = reader()
    pod = replace(
        FAILED,
        ending=None,
        scheduled=False,
        unschedulable_since="2026-01-01T10:00:02Z",
        unschedulable_message='0/1 nodes: persistentvolumeclaim "models" not found.',
    )
    assert (await look(boot, pod)).failure.reason == "VolumeClaimMissing"


def with_others(*, engine: dict[str, Any], **others: list[dict[str, Any]]) -> PodRecord:
    """A pod as a kubelet describes it, into which something else put containers."""
    metadata = {"namespace": "default", "name": "qwen-1", "uid": "p"}
    metadata["creationTimestamp"] = STARTED
    own = {"name": "engine", "ready": False, "restartCount": 0, **engine}
    return pod_record(
        {
            "metadata": {**metadata, "labels": {"vllm-operator.io/template": PLAN.template}},
            "spec": {"nodeName": "n"},
            "status": {
                "startTime": STARTED,
                "conditions": [{"type": "Ready", "status": "False"}],
                "initContainerStatuses": others.get("init", []),
                "containerStatuses": [*others.get("beside", []), own],
            },
        }
    )


READY_ENGINE = {"state": {"running": {}}, "ready": True}


async def test_an_injected_init_container_that_crashes_is_told_with_its_name_and_last_words() -> (
    None
):
    boot, _ = reader()
    failed = {"exitCode": 126, "reason": "Error", "message": "cannot get the token from the agent"}
    init = {
        "name": "mesh-init",
        "image": "mesh/init:1",
        "ready": False,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
        "lastState": {"terminated": failed},
    }
    initializing = {"state": {"waiting": {"reason": "PodInitializing"}}}
    found = await look(boot, with_others(engine=initializing, init=[init]))
    assert found.failure.reason == "ContainerFailed"
    assert found.failure.message == (
        "init container mesh-init (mesh/init:1), which is not the engine, ended with exit code "
        "126, reason Error, message cannot get the token from the agent; mend it where it comes "
        "from, in spec.pod or in what injects it; an injection is kept away by the label or "
        "annotation that it looks at (spec.pod.labels, spec.pod.annotations)"
    )
    assert found.failure.passes


async def test_an_injected_sidecar_whose_image_cannot_be_pulled_is_told_with_its_name() -> None:
    boot, _ = reader()
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "istio/proxyv2:1"'}
    sidecar = {
        "name": "istio-proxy",
        "image": "istio/proxyv2:1",
        "ready": False,
        "state": {"waiting": waiting},
    }
    found = await look(boot, with_others(engine=READY_ENGINE, beside=[sidecar]))
    assert found.failure.reason == "ContainerFailed"
    assert found.failure.message.startswith(
        "container istio-proxy (istio/proxyv2:1), which is not the engine, cannot "
        'start: the image cannot be pulled: Back-off pulling image "istio/proxyv2:1"; mend it'
    )


async def test_a_failing_sidecar_hides_no_failure_of_an_engine_that_is_down() -> None:
    boot, _ = reader(TOO_SMALL.format(left="2.4"))
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    back_off = {"waiting": {"reason": "CrashLoopBackOff"}}
    sidecar = {"name": "proxy", "state": back_off, "lastState": ended}
    crashed = {"state": back_off, "lastState": ended, "restartCount": 1}
    found = await look(boot, with_others(engine=crashed, beside=[sidecar]))
    assert found.failure.reason == "KVCacheTooSmall"


async def test_an_engine_that_once_ended_and_is_ready_hides_no_failing_sidecar() -> None:
    boot, _ = reader()
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    sidecar = {"name": "proxy", "state": ended, "ready": False}
    engine = {**READY_ENGINE, "lastState": ended, "restartCount": 1}
    found = await look(boot, with_others(engine=engine, beside=[sidecar]))
    assert found.failure.reason == "ContainerFailed"


EVICTED = replace(
    FAILED,
    name="gone",
    uid="gone",
    ending=None,
    failed=True,
    failure='Evicted: Usage of EmptyDir volume "cache" exceeds the limit "1Gi". ',
)
NEXT = replace(FAILED, ending=None, created_at="2026-01-01T10:05:00Z")
"""The pod that is made in its place."""


async def test_a_pod_that_its_node_evicted_is_told_while_the_next_one_loads() -> None:
    boot, _ = reader()
    found = await look(boot, EVICTED, NEXT, deployment=replace(DEPLOYMENT, ready_replicas=0))
    assert found.failure.reason == "PodEvicted"
    assert 'exceeds the limit "1Gi"' in found.failure.message
    assert found.failure.passes


@pytest.mark.parametrize(
    ("pods", "ready"),
    [
        ([EVICTED, replace(NEXT, ready=True)], 0),
        ([EVICTED], 1),
        ([replace(EVICTED, template="1-b")], 0),
        ([replace(EVICTED, created_at="2026-01-01T09:00:00Z")], 0),
    ],
    ids=["a newer pod is ready", "all replicas are ready", "another plan's", "older than the plan"],
)
async def test_an_eviction_of_the_past_is_no_news(pods: list[PodRecord], ready: int) -> None:
    boot, _ = reader()
    deployment = replace(DEPLOYMENT, ready_replicas=ready)
    assert await boot.diagnose(KEY, PLAN, deployment, pods, NOW) is None


UNPREPARED = replace(
    FAILED, ending=None, unprepared=True, started_at="2026-01-01T10:09:30Z", waiting_reason=""
)


class Events:
    """Stands for the API server's events: of each read its answer."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def events_of(self, namespace: str, uid: str, limit: int) -> list[dict[str, Any]]:
        self.asked.append(f"{namespace}/{uid}/{limit}")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        note = f'MountVolume.SetUp failed for volume "v" : secret "{answer}" not found'
        return [{"reason": "FailedMount", "note": note, "eventTime": "2026-01-01T10:09:40Z"}]


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


async def test_a_pod_that_its_node_does_not_prepare_is_diagnosed_by_its_events() -> None:
    events = Events("company-ca")
    found = await look(BootReader(cast(Client, events)), UNPREPARED)
    assert (found.failure.reason, found.ends) == ("SecretMissing", 0)
    assert events.asked == [f"default/{UNPREPARED.uid}/100"]


async def test_between_two_reads_that_are_due_what_the_events_said_stands() -> None:
    events = Events("company-ca", "company-ca")
    boot = BootReader(cast(Client, events))
    for seconds in (0, 1, 9, 10, 11):
        assert (await look(boot, UNPREPARED, now=later(seconds))).failure.reason == "SecretMissing"
    assert len(events.asked) == 2


async def test_a_secret_that_is_mended_gives_way_to_the_next_one_that_is_missing() -> None:
    boot = BootReader(cast(Client, Events("company-ca", "chat")))
    await look(boot, UNPREPARED)
    assert "Secret chat" in (await look(boot, UNPREPARED, now=later(10))).failure.means


async def test_an_api_server_that_refuses_events_is_not_asked_at_every_visit() -> None:
    events = Events(ApiError(403, "Forbidden", "no"))
    boot = BootReader(cast(Client, events))
    for _ in range(3):
        assert await boot.diagnose(KEY, PLAN, DEPLOYMENT, [UNPREPARED], NOW) is None
    assert len(events.asked) == 1


async def test_a_pod_that_goes_on_is_no_longer_told_of() -> None:
    boot = BootReader(cast(Client, Events("company-ca")))
    await look(boot, UNPREPARED)
    goes_on = replace(UNPREPARED, unprepared=False)
    assert await boot.diagnose(KEY, PLAN, DEPLOYMENT, [goes_on], NOW) is None
