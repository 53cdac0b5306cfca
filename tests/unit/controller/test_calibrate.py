"""What the operator reads of an engine's metrics, and says of it."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from support.builders import make_plan, make_server
from support.observed import FAILED, PLAN
from unit.sizing.examples import inputs_for
from vllm_operator.api.plan import Plan
from vllm_operator.controller import calibrate
from vllm_operator.controller.calibrate import (
    Answer,
    Calibrator,
    blocks_in,
    compared,
    version_in,
)
from vllm_operator.controller.client import Client
from vllm_operator.controller.metrics import Metrics
from vllm_operator.controller.settings import OperatorSettings
from vllm_operator.controller.shelf import Shelf
from vllm_operator.errors import ApiError, TemporaryFailure
from vllm_operator.lifecycle.kinds import CONFIG_MAPS
from vllm_operator.lifecycle.records import Key, PodRecord
from vllm_operator.lifecycle.revisions import Pinned
from vllm_operator.sizing.memory.calibration import Calibration

NAME = "vllm:cache_config_info"
# As vLLM 0.32.0 prints it, with fewer labels.
LINE = (
    f'{NAME}{{block_size="16",cache_dtype="auto",engine="0",kv_cache_size_tokens="36608",'
    'num_gpu_blocks="2288",num_gpu_blocks_override="None"} 1.0'
)


def test_the_blocks_are_read_from_the_labels() -> None:
    assert blocks_in(f"# HELP {NAME} x\n# TYPE {NAME} gauge\n{LINE}\n", NAME) == 2288


def test_an_engine_that_does_not_say_its_blocks_says_nothing() -> None:
    assert blocks_in(LINE.replace('num_gpu_blocks="2288"', 'num_gpu_blocks="None"'), NAME) is None
    assert blocks_in("vllm:num_requests_running 0.0\n", NAME) is None


def test_the_version_is_read_where_the_answer_is_one() -> None:
    assert version_in('{"version": "0.32.0+cpu"}') == "0.32.0+cpu"
    for answer in ("not found", "[]", '{"version": "dev"}', '{"version": null}', "{}"):
        assert version_in(answer) is None


def cached(expected: int, low: int) -> Plan:
    return make_plan(
        capacity={
            **make_plan().to_json_object()["capacity"],
            "bytesPerBlock": 1000,
        },
        memory={
            "total": 0,
            "utilization": 0.9,
            "budget": 0,
            "weights": 0,
            "activationPeak": 0,
            "cudaGraphs": 0,
            "nonTorch": 0,
            "kvCache": {"expected": expected, "low": low},
            "margin": expected - low,
            "outsideBudget": 0,
            "freeAtStart": {"expected": 0, "low": 0},
        },
    )


def test_the_error_is_measured_over_expected_blocks() -> None:
    cache = compared(cached(100_000, 95_000), 98)
    assert cache is not None
    assert cache.relative_error == -0.02
    assert cache.planned_num_gpu_blocks.low == 95


def test_a_plan_that_expected_no_block_has_no_error() -> None:
    cache = compared(cached(999, 0), 98)
    assert cache is not None
    assert (cache.relative_error, cache.num_gpu_blocks) == (0.0, 98)


def test_a_plan_without_block_bytes_is_compared_with_nothing() -> None:
    assert compared(make_plan(), 98) is None


KEY = ("default", "qwen")
NOBODY = "127.99.99.99"
"""An address that nobody listens on."""
LEARNED = Calibration("0.30.0", "gpu", "a/b", 1, 1, -5, 256, 8192, "e")


class ConfigMaps:
    """Stands for the API server's ConfigMaps: one, or none yet."""

    def __init__(self, data: dict[str, str] | None = None) -> None:
        self.data = data
        self.error: Exception | None = None

    async def get(self, *asked: Any) -> dict[str, Any] | None:
        assert asked == (CONFIG_MAPS, "default", "vllm-operator-calibration")
        if self.error is not None:
            raise self.error
        return None if self.data is None else {"data": dict(self.data)}

    async def merge(self, resource: Any, namespace: str, name: str, body: Any) -> None:
        assert (resource, namespace, name) == (CONFIG_MAPS, "default", "vllm-operator-calibration")
        if self.error is not None:
            raise self.error
        if self.data is None:
            raise ApiError(404, "NotFound", "")
        for key, text in body["data"].items():
            if text is None:
                del self.data[key]
            else:
                self.data[key] = text

    async def create(self, resource: Any, namespace: str, body: Any) -> None:
        assert (resource, namespace) == (CONFIG_MAPS, "default")
        assert (body["apiVersion"], body["kind"]) == ("v1", "ConfigMap")
        assert body["metadata"] == {
            "name": "vllm-operator-calibration",
            "namespace": "default",
        }
        self.data = dict(body["data"])


def calibrator(
    kept: ConfigMaps, metrics: Metrics | None = None, woken: list[Key] | None = None
) -> Calibrator:
    wake = (woken if woken is not None else []).append
    settings = OperatorSettings(calibration=True)
    metrics = metrics or Metrics()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Calibrator(cast(Client, kept), settings, metrics, lambda: now, wake)


async def test_an_engine_that_does_not_answer_is_counted_and_asked_once() -> None:
    metrics, woken = Metrics(), list[Key]()
    asking = calibrator(ConfigMaps(), metrics, woken)
    pod = replace(FAILED, ready=True, address=NOBODY, ending=None)
    for _ in range(3):
        assert asking.look(KEY, PLAN, [pod]) == Answer()
        await asyncio.gather(*asking._tasks)
    failed = metrics.registry.get_sample_value(
        "vllm_operator_calibration_reads_total", {"result": "failed"}
    )
    assert failed == 1.0
    assert woken == []


async def test_an_engine_of_another_plan_is_not_asked() -> None:
    asking = calibrator(ConfigMaps())
    pod = replace(FAILED, ready=True, address=NOBODY, ending=None, template="1-b")
    assert asking.look(KEY, PLAN, [pod]) == Answer()
    assert not asking._tasks


async def test_without_the_setting_nobody_is_asked() -> None:
    asking = Calibrator(
        cast(Client, ConfigMaps()), OperatorSettings(), Metrics(), datetime.now, lambda _: None
    )
    asking.look(KEY, PLAN, [replace(FAILED, ready=True, address=NOBODY)])
    assert not asking._tasks


async def test_without_the_setting_nothing_is_remembered_either() -> None:
    kept = ConfigMaps()
    await calibrator(kept)._remember(LEARNED)
    off = OperatorSettings()
    asking = Calibrator(cast(Client, kept), off, Metrics(), datetime.now, lambda _: None)
    await asking.load()
    assert asking.of_model(LEARNED.model) == ()


async def test_what_was_learned_is_known_after_a_restart() -> None:
    kept = ConfigMaps()
    await calibrator(kept)._remember(LEARNED)
    again = calibrator(kept)
    await again.load()
    assert again.of_model("a/b") == (LEARNED,)
    assert again.of_model("c/d") == ()


async def test_what_cannot_be_read_is_left_out() -> None:
    text = json.dumps({"learned": "2026", **LEARNED.to_json_object()})
    loading = calibrator(ConfigMaps({"a": "no JSON", "b": "{}", LEARNED.key: text}))
    await loading.load()
    assert loading.of_model("a/b") == (LEARNED,)


async def test_of_more_than_five_hundred_measurements_the_oldest_go_first() -> None:
    kept = ConfigMaps({"model-0": "", "model-1": ""})
    learning = calibrator(kept)
    for number in range(500):
        day = f"2025-01-01T00:{number // 60:02}:{number % 60:02}Z"
        learning._known[f"model-{number}"] = (day, replace(LEARNED, model=f"model-{number}"))
    await learning._remember(LEARNED)
    assert learning.of_model("model-0") == ()
    assert learning.of_model("model-1") != ()
    assert learning.of_model("a/b") == (LEARNED,)
    assert kept.data is not None
    assert list(kept.data) == ["model-1", LEARNED.key]


def writes(metrics: Metrics) -> float | None:
    labels = {"kind": "ConfigMap"}
    return metrics.registry.get_sample_value("vllm_operator_writes_total", labels)


async def test_what_is_learned_is_written_once_and_what_is_known_not_again() -> None:
    metrics = Metrics()
    learning = calibrator(ConfigMaps(), metrics)
    for _ in range(2):
        await learning._remember(LEARNED)
    assert writes(metrics) == 1
    await learning._remember(replace(LEARNED, difference=-6))
    assert writes(metrics) == 2


async def test_when_something_was_learned_is_kept_with_it() -> None:
    kept = ConfigMaps()
    await calibrator(kept)._remember(LEARNED)
    assert kept.data is not None
    assert json.loads(kept.data[LEARNED.key])["learned"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("error", [ApiError(403, "Forbidden", ""), TemporaryFailure("away")])
async def test_what_cannot_be_kept_is_known_until_the_next_start(error: Exception) -> None:
    kept, metrics = ConfigMaps({}), Metrics()
    kept.error = error
    learning = calibrator(kept, metrics)
    await learning.load()
    await learning._remember(LEARNED)
    assert learning.of_model("a/b") == (LEARNED,)
    assert not writes(metrics)


READY = replace(FAILED, ready=True, address="10.0.0.1", ending=None)


class Engine:
    """Answers a read of an engine, or does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, blocks: int, version: str) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answers = {
            "/version": json.dumps({"version": version}),
            "/metrics": LINE.replace("2288", str(blocks)),
        }
        self.error: Exception | None = None
        monkeypatch.setattr(calibrate, "_read", self.read)

    async def read(self, address: str, path: str) -> str:
        self.asked.append((address, path))
        if self.error is not None and path == "/metrics":
            raise self.error
        return self.answers[path]


def planned(blocks: int) -> Pinned:
    """A plan in force that expects so many blocks."""
    plan = cached(blocks * 1000, blocks * 1000)
    inputs = inputs_for(make_server()).to_json_object()
    assert PLAN.sized is not None
    return replace(PLAN, sized=replace(PLAN.sized, plan=plan), inputs=inputs)


async def said(asking: Calibrator, plan: Pinned, pod: PodRecord = READY) -> Answer:
    asking.look(KEY, plan, [pod])
    await asyncio.gather(*asking._tasks)
    return asking.look(KEY, plan, [pod])


async def test_what_an_engine_measured_is_said_and_its_server_visited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics, woken = Metrics(), list[Key]()
    version = cached(1, 1).engine.version
    engine = Engine(monkeypatch, 110, version)
    answer = await said(calibrator(ConfigMaps(), metrics, woken), planned(100))
    assert engine.asked == [("10.0.0.1", "/version"), ("10.0.0.1", "/metrics")]
    assert answer.version == version
    assert answer.cache is not None
    assert (answer.cache.num_gpu_blocks, answer.cache.relative_error) == (110, 0.1)
    assert woken == [KEY]
    value = metrics.registry.get_sample_value
    assert value("vllm_operator_calibration_reads_total", {"result": "read"}) == 1
    labels = {"namespace": "default", "server": "qwen"}
    assert value("vllm_operator_kv_cache_error_ratio", labels) == 0.1


async def test_an_engine_that_says_only_its_version_is_told_by_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    woken = list[Key]()
    engine = Engine(monkeypatch, 110, "0.32.0")
    engine.error = TimeoutError()
    answer = await said(calibrator(ConfigMaps(), woken=woken), planned(100))
    assert (answer.cache, answer.version) == (None, "0.32.0")
    assert woken == [KEY]


async def test_what_an_engine_of_the_planned_version_measured_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for version, learned in (("0.30.0", 1), ("0.31.0", 0)):
        kept = ConfigMaps()
        Engine(monkeypatch, 110, version)
        await said(calibrator(kept), planned(100))
        assert len(kept.data or {}) == learned


async def test_of_many_engines_four_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, go_on = 0, 0, asyncio.Event()

    async def read(_address: str, path: str) -> str:
        nonlocal running, most
        if path == "/version":
            running += 1
            most = max(most, running)
            await go_on.wait()
            running -= 1
        return ""

    monkeypatch.setattr(calibrate, "_read", read)
    asking, plan = calibrator(ConfigMaps()), planned(100)
    for name in "abcdef":
        asking.look(("default", name), plan, [replace(READY, uid=name)])
    for _ in range(5):
        await asyncio.sleep(0)
    assert most == 4
    go_on.set()
    await asyncio.gather(*asking._tasks)
    assert most == 4


async def test_each_start_of_a_pod_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, 110, "0.32.0")
    asking = calibrator(ConfigMaps())
    for restarts in (0, 0, 1):
        await said(asking, planned(100), replace(READY, restarts=restarts))
    assert len(engine.asked) == 4


@pytest.mark.parametrize("pod", [replace(READY, ready=False), replace(READY, address="")])
async def test_a_pod_that_is_not_ready_or_has_no_address_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, pod: PodRecord
) -> None:
    engine = Engine(monkeypatch, 110, "0.32.0")
    assert await said(calibrator(ConfigMaps()), planned(100), pod) == Answer()
    assert engine.asked == []


async def test_what_an_engine_of_the_plan_before_said_is_not_said_of_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Engine(monkeypatch, 110, "0.32.0")
    asking = calibrator(ConfigMaps())
    await said(asking, planned(100))
    asking._asked.clear()
    assert asking.look(KEY, replace(planned(100), uid="r2"), []) == Answer()


async def test_of_a_server_that_is_gone_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    Engine(monkeypatch, 110, "0.32.0")
    asking = calibrator(ConfigMaps(), metrics)
    await said(asking, planned(100))
    asking.forget(KEY)
    labels = {"namespace": "default", "server": "qwen"}
    assert metrics.registry.get_sample_value("vllm_operator_kv_cache_error_ratio", labels) is None
    assert asking.look(KEY, planned(100), []) == Answer()


async def served(answer: Callable[[], web.Response], monkeypatch: pytest.MonkeyPatch) -> str:
    """What is read of an engine that answers so."""

    async def handle(request: web.Request) -> web.Response:
        assert request.path == "/metrics"
        return answer()

    application = web.Application()
    application.router.add_get("/{path}", handle)
    async with TestServer(application) as server:
        assert server.port is not None
        monkeypatch.setattr(calibrate, "PORT", server.port)
        return await calibrate._read("127.0.0.1", "/metrics")


async def test_an_answer_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await served(lambda: web.Response(text="ab"), monkeypatch) == "ab"
    monkeypatch.setattr(calibrate, "READ_BYTES", 3)
    assert await served(lambda: web.Response(text="abcdef"), monkeypatch) == "abc"


@pytest.mark.parametrize("status", [404, 500])
async def test_an_engine_that_refuses_has_not_answered(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with pytest.raises(aiohttp.ClientResponseError):
        await served(lambda: web.Response(status=status), monkeypatch)


async def test_an_engine_sends_the_operator_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = {"Location": "/elsewhere"}
    answer = await served(
        lambda: web.Response(status=302, headers=elsewhere, text="moved"), monkeypatch
    )
    assert answer == "moved"


@pytest.mark.parametrize("there", [True, False])
async def test_what_is_kept_is_text_and_what_is_forgotten_is_gone(there: bool) -> None:
    kept = ConfigMaps({"old": "1", "stays": "2"} if there else None)
    shelf = Shelf(cast(Client, kept), "default", Metrics())
    await shelf.write({"new": "3", "old": None} if there else {"new": "3", "never": None})
    assert kept.data == ({"stays": "2", "new": "3"} if there else {"new": "3"})
