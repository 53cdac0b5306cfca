"""What the operator reads of an engine's metrics, and says of it."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from support.builders import make_plan
from support.observed import FAILED, PLAN
from vllm_operator.api.plan import Plan
from vllm_operator.controller import calibrate
from vllm_operator.controller.calibrate import (
    CONFIG_MAP,
    Answer,
    Calibrator,
    blocks_in,
    compared,
    version_in,
)
from vllm_operator.controller.client import Client
from vllm_operator.controller.metrics import Metrics
from vllm_operator.controller.settings import OperatorSettings
from vllm_operator.errors import ApiError
from vllm_operator.lifecycle.records import Key
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

    async def get(self, *_: Any) -> dict[str, Any] | None:
        return None if self.data is None else {"data": dict(self.data)}

    async def merge(self, _resource: Any, _namespace: str, _name: str, body: Any) -> None:
        if self.data is None:
            raise ApiError(404, "NotFound", "")
        for key, text in body["data"].items():
            if text is None:
                del self.data[key]
            else:
                self.data[key] = text

    async def create(self, _resource: Any, _namespace: str, body: Any) -> None:
        assert body["metadata"]["name"] == CONFIG_MAP
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


async def test_the_oldest_go_first_where_there_are_too_many(monkeypatch: Any) -> None:
    monkeypatch.setattr(calibrate, "KEPT", 2)
    kept = ConfigMaps()
    learning = calibrator(kept)
    for model in ("first", "second", "third"):
        await learning._remember(replace(LEARNED, model=model))
    assert learning.of_model("first") == ()
    assert kept.data is not None
    assert len(kept.data) == 2
