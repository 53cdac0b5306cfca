"""What was learned of a kind of server outlives servers and operators."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from vllm_operator.controller.client import Client
from vllm_operator.controller.curves import Curves
from vllm_operator.controller.metrics import Metrics
from vllm_operator.controller.shelf import Shelf
from vllm_operator.errors import ApiError, TemporaryFailure
from vllm_operator.tuning.curve import UNSEEN, assumed

from .test_calibrate import LEARNED, ConfigMaps, calibrator, writes

POSTERIOR = replace(assumed(batch=32.0), intervals=240, blocks=4)
KIND, OTHER = "latency.a", "latency.b"


def curves(kept: ConfigMaps, metrics: Metrics | None = None) -> Curves:
    shelf = Shelf(cast(Client, kept), "default", metrics or Metrics())
    return Curves(lambda: datetime(2026, 1, 1, tzinfo=UTC), shelf)


async def test_a_curve_is_known_after_a_restart_to_servers_of_its_kind() -> None:
    kept = ConfigMaps()
    learning = curves(kept)
    learning.learned(KIND, POSTERIOR)
    await learning.write()
    again = curves(kept)
    await again.load()
    assert again.prior(KIND) == POSTERIOR.prior()
    assert again.prior(OTHER) == UNSEEN


async def test_what_was_learned_is_written_once_and_what_is_known_not_again() -> None:
    metrics = Metrics()
    learning = curves(ConfigMaps(), metrics)
    await learning.write()
    assert not writes(metrics)
    for _ in range(2):
        learning.learned(KIND, POSTERIOR)
        learning.learned(OTHER, POSTERIOR)
        await learning.write()
    assert writes(metrics) == 1


async def test_a_curve_that_rests_on_little_is_not_remembered() -> None:
    learning = curves(ConfigMaps())
    learning.learned(KIND, replace(POSTERIOR, intervals=59))
    assert learning.prior(KIND) == UNSEEN


async def test_curves_and_measurements_share_a_config_map_and_leave_each_other_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = ConfigMaps()
    learning = curves(kept)
    learning.learned(KIND, POSTERIOR)
    await learning.write()
    await calibrator(kept)._remember(LEARNED)
    again, measured = curves(kept), calibrator(kept)
    await again.load()
    await measured.load()
    assert again.prior(KIND) == POSTERIOR.prior()
    assert measured.of_model(LEARNED.model) == (LEARNED,)
    assert caplog.records == []


async def test_what_cannot_be_read_is_left_out() -> None:
    loading = curves(ConfigMaps({KIND: "no JSON", OTHER: '{"learned": "2026"}'}))
    await loading.load()
    assert loading.prior(KIND) == loading.prior(OTHER) == UNSEEN


@pytest.mark.parametrize("error", [ApiError(403, "Forbidden", ""), TemporaryFailure("away")])
async def test_what_cannot_be_kept_is_known_until_the_next_start(error: Exception) -> None:
    kept = ConfigMaps({})
    kept.error = error
    learning = curves(kept)
    learning.learned(KIND, POSTERIOR)
    await learning.write()
    assert learning.prior(KIND) == POSTERIOR.prior()


async def test_of_more_than_three_hundred_kinds_the_oldest_go_first() -> None:
    kept = ConfigMaps()
    learning = curves(kept)
    began = learning.clock()
    for number in range(301):
        learning.clock = lambda number=number: began + timedelta(seconds=number)  # type: ignore[misc]
        learning.learned(f"latency.{number}", POSTERIOR)
        await learning.write()
    assert kept.data is not None
    assert list(kept.data) == [f"latency.{number}" for number in range(1, 301)]
    assert learning.prior("latency.0") == UNSEEN


async def test_without_a_config_map_it_lasts_as_long_as_the_process() -> None:
    learning = Curves(lambda: datetime(2026, 1, 1, tzinfo=UTC))
    await learning.load()
    learning.learned(KIND, POSTERIOR)
    await learning.write()
    assert learning.prior(KIND) == POSTERIOR.prior()
