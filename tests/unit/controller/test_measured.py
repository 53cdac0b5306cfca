"""What was measured of GPUs and servers, as it is kept in the operator's ConfigMap."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from vllm_operator.controller.measured import Measurements
from vllm_operator.hardware.measured import MeasuredGPU
from vllm_operator.sizing.performance.learned import Kind, Load, MeasuredSpeed

L4 = MeasuredGPU("NVIDIA-L4", "2026-01-01T00:00:00Z", 1e14, 2.5e11)
KIND = Kind("abc", "0.30.0", "NVIDIA-L4", "def", 1, 1, 1, "ghi")
SPEED = MeasuredSpeed(KIND, Load(100, 20, 8), 1.1, 0.9, "2026-01-01T00:00:00Z")


class Kept:
    """A ConfigMap's data, and how often it was written."""

    def __init__(self, data: Mapping[str, str] | None = None) -> None:
        self.data = dict(data or {})
        self.writes = 0

    async def read(self) -> Mapping[str, str] | None:
        return None if self.data is None else dict(self.data)

    async def write(self, changed: Mapping[str, str | None]) -> None:
        self.writes += 1
        for key, text in changed.items():
            if text is None:
                self.data.pop(key, None)
            else:
                self.data[key] = text


def loaded(kept: Kept) -> Measurements:
    found = Measurements(kept)  # type: ignore[arg-type]
    asyncio.run(found.load())
    return found


def text(one: MeasuredGPU | MeasuredSpeed) -> str:
    return json.dumps(one.to_json_object())


def test_what_is_kept_is_read_each_by_its_kind() -> None:
    found = loaded(Kept({L4.key: text(L4), SPEED.key: text(SPEED), "0a1b": "a calibration"}))
    assert found.gpus() == (L4,)
    assert found.speeds("abc") == (SPEED,)
    assert found.speeds("other") == ()


@pytest.mark.parametrize("unread", ["{", "[]", "{}", '"text"'])
def test_what_cannot_be_read_is_left_out(unread: str) -> None:
    kept = Kept({"gpu.A": unread, L4.key: text(L4), "speed.a": unread, SPEED.key: text(SPEED)})
    found = loaded(kept)
    assert found.gpus() == (L4,)
    assert found.speeds("abc") == (SPEED,)


def test_what_is_gone_from_the_config_map_is_forgotten() -> None:
    kept = Kept({L4.key: text(L4)})
    found = loaded(kept)
    kept.data.clear()
    asyncio.run(found.load())
    assert found.gpus() == ()


def test_a_speed_is_learned_once_and_kept() -> None:
    kept = Kept()
    found = loaded(kept)
    asyncio.run(found.learn([SPEED]))
    asyncio.run(found.learn([SPEED]))
    assert kept.writes == 1
    assert loaded(kept).speeds("abc") == (SPEED,)


def test_a_newer_measurement_of_a_load_takes_the_place_of_the_older() -> None:
    kept = Kept({SPEED.key: text(SPEED)})
    found = loaded(kept)
    newer = replace(SPEED, between=1.3, at="2026-02-01T00:00:00Z")
    asyncio.run(found.learn([newer]))
    asyncio.run(found.learn([SPEED]))
    assert found.speeds("abc") == (newer,)


def test_the_oldest_go_where_there_are_too_many() -> None:
    kept = Kept()
    found = loaded(kept)
    days = [f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z" for number in range(502)]
    loads = [Load(100, 20, number) for number in range(1, 503)]
    speeds = [replace(SPEED, load=load, at=at) for load, at in zip(loads, days, strict=True)]
    asyncio.run(found.learn(speeds))
    assert len(kept.data) == 500
    assert {one.load.concurrency for one in found.speeds("abc")} == set(range(3, 503))


def test_without_a_place_to_keep_it_nothing_is_learned() -> None:
    found = Measurements()
    asyncio.run(found.load())
    asyncio.run(found.learn([SPEED]))
    assert found.speeds("abc") == found.gpus() == ()


def test_what_was_known_is_known_still_where_it_cannot_be_read() -> None:
    kept = Kept({L4.key: text(L4)})
    found = loaded(kept)
    kept.data = None  # type: ignore[assignment]
    asyncio.run(found.load())
    assert found.gpus() == (L4,)
