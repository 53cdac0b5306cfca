"""Tuning beside the visits: what is asked of Prometheus, and what a server's status says of it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.intervals import intervals
from vllm_operator.controller.curves import Curves
from vllm_operator.controller.settings import OperatorSettings
from vllm_operator.controller.sources.prometheus import Answer, Wanted
from vllm_operator.controller.tuning import Autotuner
from vllm_operator.lifecycle.kinds import SERVERS
from vllm_operator.tuning.curve import UNSEEN
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.edges import EDGES
from vllm_operator.tuning.samples import Reading
from vllm_operator.tuning.scene import Look, Scene
from vllm_operator.tuning.tuner import Tuner

from .test_curves import POSTERIOR
from .test_visits import KEY, START, World

RECOMMEND = {"autotune": {"mode": "Recommend"}, "gpu": {"product": "H100"}}


class Played:
    """A Prometheus whose answers are given; it remembers what it was asked for."""

    def __init__(self, scrape: float | None = 15.0) -> None:
        self.scrape = scrape
        self.asked: list[list[Wanted]] = []
        self.problem: str | None = None

    async def read(self, wanted: Iterable[Wanted], durations: Durations) -> dict[Any, Answer]:
        self.asked.append(list(wanted))
        if self.problem:
            return {one.key: Answer(Reading(one.pod), self.problem) for one in self.asked[-1]}
        now = START.timestamp() + 600
        seen = [replace(one, end=now - 15 * number) for number, one in enumerate(intervals(20))]
        return {
            one.key: Answer(Reading(one.pod, tuple(reversed(seen)), newest=now, scrape=self.scrape))
            for one in self.asked[-1]
        }

    def close(self) -> None:
        """Nothing is open."""


class Tuned:
    """A server with ``spec.autotune``, its operator, and a Prometheus."""

    def __init__(
        self,
        prometheus: Played | None = None,
        settings: OperatorSettings | None = None,
        **spec: Any,
    ) -> None:
        self.visits: list[Any] = []
        self.tuner = Autotuner(
            settings or OperatorSettings(),
            lambda: self.world.now,
            self.visits.append,
            prometheus,  # type: ignore[arg-type]
        )
        self.world = World(tuner=self.tuner, **{**RECOMMEND, **spec})

    async def serves(self) -> None:
        """Planned, rolled out and visited."""
        await self.world.visit()
        self.world.serves()
        await self.world.visit()

    def condition(self, kind: str) -> dict[str, Any]:
        conditions = self.world.status["conditions"]
        return next((one for one in conditions if one["type"] == kind), {})


async def test_a_server_without_autotune_has_neither_a_condition_nor_a_status_of_it() -> None:
    tuned = Tuned(Played(), autotune=None)
    await tuned.serves()
    assert "tuning" not in tuned.world.status
    assert tuned.condition("Tuned") == tuned.condition("MetricsAvailable") == {}
    await tuned.tuner.read()
    assert tuned.visits == []


async def test_without_a_prometheus_the_status_says_what_to_set() -> None:
    tuned = Tuned()
    await tuned.serves()
    found = tuned.condition("MetricsAvailable")
    assert (found["status"], found["reason"]) == ("False", "NotConfigured")
    assert "prometheus.url" in found["message"]
    assert tuned.condition("Ready")["status"] == "True"


async def test_the_pods_that_serve_are_read_and_their_server_is_visited_again() -> None:
    played = Played()
    tuned = Tuned(played)
    await tuned.serves()
    assert tuned.condition("MetricsAvailable")["status"] == "Unknown"
    tuned.world.now += timedelta(minutes=10)
    await tuned.tuner.read()
    assert [(one.namespace, one.pod) for one in played.asked[0]] == [("default", "old")]
    assert tuned.visits == [KEY]
    await tuned.world.visit()
    assert tuned.condition("MetricsAvailable")["status"] == "True"
    assert tuned.world.status["tuning"]["state"] == "Observing"


async def asked_after(*minutes: float, played: Played) -> list[float]:
    """Seconds that reads ask for which are so many minutes apart."""
    tuned = Tuned(played)
    await tuned.serves()
    for passed in minutes:
        tuned.world.now += timedelta(minutes=passed)
        await tuned.tuner.read()
    return [one.seconds for [one] in played.asked]


async def test_the_first_read_asks_for_forty_minutes_and_the_next_for_what_is_new() -> None:
    assert await asked_after(0, 1, 1, played=Played()) == [2400.0, 120.0, 120.0]


async def test_a_slower_scrape_is_asked_for_over_a_longer_time() -> None:
    assert await asked_after(0, 1, played=Played(scrape=60.0)) == [2400.0, 300.0]


async def test_scrapes_of_which_nothing_is_known_are_asked_for_over_seven_minutes() -> None:
    assert await asked_after(0, 1, played=Played(scrape=None)) == [2400.0, 420.0]


async def test_what_a_read_missed_is_asked_for_by_the_next_that_is_answered() -> None:
    played = Played()
    tuned = Tuned(played)
    await tuned.serves()
    for played.problem in (None, "connection refused", "connection refused", None, None):
        await tuned.tuner.read()
        tuned.world.now += timedelta(minutes=1)
    assert [one.seconds for [one] in played.asked] == [2400.0, 120.0, 180.0, 240.0, 120.0]


async def test_no_read_asks_for_more_than_the_first() -> None:
    assert await asked_after(0, 600, played=Played()) == [2400.0, 2400.0]


async def test_a_prometheus_that_does_not_answer_is_told_and_changes_nothing_else() -> None:
    played = Played()
    tuned = Tuned(played)
    await tuned.serves()
    played.problem = "connection refused"
    await tuned.tuner.read()
    await tuned.world.visit()
    assert tuned.condition("MetricsAvailable")["reason"] == "Unreachable"
    assert tuned.condition("Ready")["status"] == "True"


async def test_visits_that_see_the_same_write_nothing() -> None:
    tuned = Tuned(Played())
    await tuned.serves()
    await tuned.world.visit()
    before = tuned.world.status
    written = len(tuned.world.memory.writes)
    await tuned.world.visit()
    assert tuned.world.status == before
    assert len(tuned.world.memory.writes) == written


async def test_a_server_that_the_performance_model_does_not_describe_says_so() -> None:
    speculative = {"speculative": {"method": "ngram", "numSpeculativeTokens": 2}}
    tuned = Tuned(Played(), engine=speculative)
    await tuned.serves()
    assert tuned.condition("Tuned")["reason"] == "NotDescribed"


async def test_a_mode_that_is_switched_off_leaves_nothing_in_the_status() -> None:
    tuned = Tuned(Played())
    await tuned.serves()
    assert "tuning" in tuned.world.status
    tuned.world.edit(**{**RECOMMEND, "autotune": {"mode": "Disabled"}})
    await tuned.world.visit()
    await tuned.world.visit()
    assert "tuning" not in tuned.world.status
    assert tuned.condition("Tuned") == {}


def sample(tuned: Tuned, what: str, **labels: str) -> float | None:
    return tuned.tuner.metrics.registry.get_sample_value(f"vllm_operator_{what}", labels)


async def test_the_state_of_tuning_is_a_metric_until_the_server_is_gone() -> None:
    tuned = Tuned(Played())
    await tuned.serves()
    labels = {"namespace": KEY[0], "server": KEY[1], "state": "Observing"}
    assert sample(tuned, "tuning_state", **labels) == 1
    looks = sample(tuned, "tuning_look_duration_seconds_count") or 0
    assert looks >= 1
    await tuned.world.visit()
    assert sample(tuned, "tuning_look_duration_seconds_count") == looks + 1
    tuned.tuner.forget(KEY)
    assert sample(tuned, "tuning_state", **labels) is None


async def test_a_trial_that_ended_is_counted_once_also_where_its_edge_is_taken_again() -> None:
    tuned = Tuned(Played())
    await tuned.serves()
    setting = {"maxNumSeqs": 64, "maxNumBatchedTokens": 2048, "gpuMemoryUtilization": 0.9}
    at = "2026-01-01T09:59:00Z"
    live = tuned.world.memory.objects["vllmservers", "qwen"]
    live["status"]["tuning"] = {
        "state": "Judging",
        "since": at,
        "reason": "InCanary",
        "trial": {
            "proposedAt": at,
            "trigger": "a",
            "diagnosis": "Sequences",
            "from": setting,
            "to": {**setting, "maxNumSeqs": 96},
        },
    }
    before = copy.deepcopy(live)
    for _ in range(2):  # Recommend ends it
        tuned.world.store.observe(SERVERS.kind, tuned.world.memory.keep("vllmservers", before))
        await tuned.world.visit()
    assert sample(tuned, "tuning_trials_total", verdict="Interrupted") == 1


async def test_a_server_made_anew_begins_with_what_was_learned_of_its_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tuned = Tuned(Played())
    tuned.tuner.curves = curves = Curves(lambda: tuned.world.now)
    priors = []
    look = Tuner.look

    def noted(tuner: Tuner, *of: Any) -> Look:
        priors.append(tuner.prior)
        tuner.posterior = POSTERIOR
        found = look(tuner, *of)
        return replace(found, step=replace(found.step, edge=EDGES[0]))

    monkeypatch.setattr(Tuner, "look", noted)
    await tuned.serves()
    assert priors[0] == UNSEEN
    tuned.tuner.forget(KEY)
    await tuned.world.visit()
    assert priors[-1] == POSTERIOR.prior()
    tuned.world.edit(**{**RECOMMEND, "model": {"id": "Qwen/Qwen3-4B"}})
    await tuned.world.visit()
    await tuned.world.visit()
    assert priors[-1] == UNSEEN
    assert len(curves._known) == 2


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> list[Scene]:
    """What each look was told."""
    seen: list[Scene] = []
    look = Tuner.look

    def noted(tuner: Tuner, tuning: Any, facts: Any, scene: Scene, now: float) -> Look:
        seen.append(scene)
        return look(tuner, tuning, facts, scene, now)

    monkeypatch.setattr(Tuner, "look", noted)
    return seen


@pytest.mark.parametrize(("most", "permit"), [(0, False), (1, True)])
async def test_no_trial_begins_beyond_those_that_the_operator_may_have(
    most: int, permit: bool, scenes: list[Scene]
) -> None:
    tuned = Tuned(Played(), OperatorSettings(tuning_max_concurrent_trials=most))
    await tuned.serves()
    assert scenes[-1].permit is permit


@pytest.mark.parametrize("may_preempt", [False, True])
async def test_a_server_with_a_priority_class_is_tried_only_where_trials_may_preempt(
    may_preempt: bool, scenes: list[Scene]
) -> None:
    settings = OperatorSettings(tuning_may_preempt=may_preempt)
    tuned = Tuned(Played(), settings, pod={"priorityClassName": "high"})
    await tuned.serves()
    assert scenes[-1].describable is may_preempt


IMPOSSIBLE = [
    ({"schedule": "0 2 30 2 *"}, "spec.autotune.window.schedule", "0 2 * * *"),
    ({"timeZone": "Europe/Berlyn"}, "spec.autotune.window.timeZone", "write Europe/Berlin"),
]


@pytest.mark.parametrize(("wrong", "field", "works"), IMPOSSIBLE)
async def test_a_window_that_cannot_be_read_is_told_with_what_works_and_stops_nothing_else(
    wrong: dict[str, Any], field: str, works: str
) -> None:
    window = {"schedule": "0 2 * * *", "durationMinutes": 60, **wrong}
    tuned = Tuned(Played(), autotune={"mode": "Auto", "window": window})
    await tuned.serves()
    found = tuned.condition("Tuned")
    assert (found["status"], found["reason"]) == ("False", "WindowUnreadable")
    assert field in found["message"]
    assert works in found["message"]
    assert tuned.condition("Planned")["reason"] == "Sized"
    assert tuned.condition("Ready")["status"] == "True"


async def test_a_window_that_is_corrected_is_told_no_longer() -> None:
    window = {"schedule": "0 2 30 2 *", "durationMinutes": 60}
    tuned = Tuned(Played(), autotune={"mode": "Auto", "window": window})
    await tuned.serves()
    right = {**window, "schedule": "0 2 28 2 *"}
    tuned.world.edit(**{**RECOMMEND, "autotune": {"mode": "Auto", "window": right}})
    await tuned.world.visit()
    assert tuned.condition("Tuned")["reason"] == "Observing"


async def test_a_defect_of_tuning_stops_no_visit(caplog: Any) -> None:
    tuned = Tuned(Played())
    await tuned.serves()
    tuned.tuner.durations = None  # type: ignore[assignment]
    tuned.tuner.forget(KEY)
    await tuned.world.visit()
    assert tuned.condition("Ready")["status"] == "True"
    assert "tuning failed" in caplog.text


async def test_an_operator_that_starts_again_says_nothing_new_of_the_metrics() -> None:
    tuned = Tuned(Played())
    await tuned.serves()
    tuned.world.now += timedelta(minutes=10)
    await tuned.tuner.read()
    await tuned.world.visit()
    before, written = tuned.world.status, len(tuned.world.memory.writes)
    assert tuned.condition("MetricsAvailable")["status"] == "True"
    tuned.tuner.forget(KEY)
    await tuned.world.visit()
    assert tuned.world.status == before
    assert len(tuned.world.memory.writes) == written


async def test_an_operator_that_is_given_a_prometheus_says_no_more_that_it_has_none() -> None:
    tuned = Tuned()
    await tuned.serves()
    tuned.tuner.prometheus = Played()  # type: ignore[assignment]
    tuned.tuner.forget(KEY)
    await tuned.world.visit()
    assert tuned.condition("MetricsAvailable")["reason"] == "NoSeries"
