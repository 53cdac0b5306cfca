"""Several simulated pods behind one Service, and a tuner that acts on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from enginesimulator import state as at
from enginesimulator import sweep
from enginesimulator.load import dealt, phases
from enginesimulator.planned import Server
from enginesimulator.service import Service
from enginesimulator.session import (
    EPOCH,
    Look,
    Observed,
    PodReading,
    Session,
    Wanted,
    leave_alone,
    scripted,
)
from enginesimulator.sweep import Replays
from support.simulated import WORKLOAD, workload
from vllm_operator.tuning.knobs import Knobs

TRIED = Knobs(128, 2048, 0.9)
ACTIVE = Knobs(64, 2048, 0.9, 32)


@cache
def server() -> Server:
    return Server(WORKLOAD["server"])


def session(look: Look, **changes: Any) -> Session:
    told = workload(**changes)
    one = Session(Server(told["server"]), told, look)
    one.run()
    return one


def hour(**changes: Any) -> dict[str, Any]:
    arrivals = [{"minutes": 30, "kind": "poisson", "requestsPerSecond": 0.5}]
    return {"minutes": 30, "arrivals": arrivals, **changes}


def test_phases_draw_the_lengths_that_they_are_told() -> None:
    arrivals = [{"minutes": 60, "kind": "poisson", "requestsPerSecond": 2.0}]
    (phase,) = phases(workload(minutes=60, arrivals=arrivals), 40960)
    drawn = phase.arrivals
    assert len(drawn) == pytest.approx(7200, rel=0.05)
    assert sum(one.prompt for one in drawn) / len(drawn) == pytest.approx(200, rel=0.05)
    assert sum(one.output for one in drawn) / len(drawn) == pytest.approx(50, rel=0.05)


def test_a_phase_may_have_lengths_of_its_own() -> None:
    lengths = {"prompt": {"mean": 10, "sigma": 0.0}, "output": {"mean": 5, "sigma": 0.0}}
    arrivals = [
        {"minutes": 6, "kind": "poisson", "requestsPerSecond": 1.0},
        {"minutes": 6, "kind": "closed", "clients": 3, "lengths": lengths},
    ]
    first, second = phases(workload(arrivals=arrivals), 40960)
    assert {(10, 5)} == set(second.pool)
    assert len({one.prompt for one in first.arrivals}) > 50


def test_phases_must_fill_the_workload() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        phases(workload(minutes=13), 40960)


def test_prompts_are_longer_than_the_prefix_that_they_share() -> None:
    lengths = {**WORKLOAD["lengths"], "sharedPrefix": 150}
    (phase,) = phases(workload(lengths=lengths), 40960)
    assert min(one.prompt for one in phase.arrivals) == 151


def test_clients_are_dealt_out_by_share_and_none_is_lost() -> None:
    assert dealt(10, [0.7, 0.3]) == [7, 3]
    assert dealt(10, [1.0, 1.0, 1.0]) == [4, 3, 3]


def test_pods_get_their_shares_and_one_beside_them_an_equal_part() -> None:
    service = Service(server(), workload(balance=[0.6, 0.4]))
    pods = [service.add(server().start, place) for place in (0, 1)]
    assert [share for _, share in service.shares()] == pytest.approx([0.6, 0.4])
    service.add(TRIED, None)
    assert [share for _, share in service.shares()] == pytest.approx([0.4, 0.8 / 3, 1 / 3])
    service.remove(pods[0])
    assert [share for _, share in service.shares()] == pytest.approx([2 / 3, 1 / 3])


def test_a_pod_that_is_removed_finishes_what_it_has_and_nothing_is_lost() -> None:
    service = Service(server(), workload())
    pods = [service.add(server().start, place) for place in (0, 1)]
    service.advance(300.0)
    service.remove(pods[0])
    service.advance(900.0)
    assert pods[0] not in service.pods
    arrived = service.phases[0].arrivals
    assert service.count(at.FINISHED) == len(arrived)
    assert service.count(at.GENERATED) == sum(one.output for one in arrived)


def test_what_arrives_while_no_pod_serves_waits_for_one() -> None:
    told = workload(balance=[1.0], server={**WORKLOAD["server"], "replicas": 1})
    service = Service(Server(told["server"]), told)
    service.advance(120.0)
    service.add(server().start, 0)
    service.advance(900.0)
    assert service.count(at.FINISHED) == len(service.phases[0].arrivals)


def test_clients_move_to_a_new_pod() -> None:
    arrivals = [{"minutes": 12, "kind": "closed", "clients": 30}]
    service = Service(server(), workload(arrivals=arrivals))
    pods = [service.add(server().start, place) for place in (0, 1)]
    service.advance(60.0)
    pods.append(service.add(TRIED, None))
    service.advance(120.0)
    assert [pod.clients for pod in pods] == [10, 10, 10]
    assert [pod.engine.running + pod.engine.waiting for pod in pods] == [10, 10, 10]


def test_the_planner_gives_a_larger_cache_for_more_memory_and_refuses_what_does_not_fit() -> None:
    one, more = server().planned(server().start), server().planned(Knobs(64, 2048, 0.95))
    assert one is not None
    assert more is not None
    assert more.blocks > one.blocks
    assert server().planned(Knobs(64, 2048, 0.2)) is None


def test_a_start_that_compiles_takes_longer() -> None:
    planned = server().planned(server().start)
    assert planned is not None
    # 36 layers of 1.2 seconds.
    assert planned.cold - planned.warm == pytest.approx(43.2)


def test_a_tuner_that_does_nothing_starts_nothing() -> None:
    told = session(leave_alone).told
    assert (told.starts, told.replica_starts, told.verdicts) == (0, 0, [])
    assert told.settled == 60.0


def test_a_trial_begins_beside_the_replicas_and_is_ready_after_a_cold_start() -> None:
    seen: list[tuple[float, Observed]] = []

    def look(now: float, readings: Sequence[PodReading], observed: Observed) -> Wanted:
        seen.append((now - EPOCH, observed))
        return Wanted(observed.stable, TRIED, state="Judging")

    one = session(look, **hour())
    cold = one.server.planned(TRIED)
    assert cold is not None
    ready = next(pod for _, observed in seen for pod in observed.pods if pod.trial)
    assert ready.ready - EPOCH == pytest.approx(60.0 + cold.cold)
    assert [observed.trial for _, observed in seen[:2]] == ["Absent", "Starting"]
    assert (one.told.starts, one.told.replica_starts) == (1, 1)
    assert len(seen[-1][1].pods) == 3


def test_another_cap_alone_starts_warm() -> None:
    look = scripted(ACTIVE, begin=60.0, end=1e9, promote=True)
    one = session(look, **hour())
    warm = one.server.planned(ACTIVE)
    assert warm is not None
    (trial,) = (pod for pod in one.service.pods if pod.place is None)
    assert trial.since == pytest.approx(60.0 + warm.warm)


def test_a_promotion_rolls_the_replicas_and_keeps_the_trials_pod() -> None:
    one = session(scripted(TRIED, begin=60.0, end=600.0, promote=True), **hour())
    assert {pod.knobs for pod in one.service.pods} == {TRIED}
    assert sorted(pod.place or 0 for pod in one.service.pods) == [0, 1]
    assert (one.told.starts, one.told.replica_starts) == (1, 2)
    assert [verdict.verdict for verdict in one.told.verdicts] == ["promoted"]
    assert one.told.promotions == [(one.server.start, TRIED)]
    assert one.told.state == "Settled"


def test_the_pods_of_a_promotion_start_warm_and_one_after_the_other() -> None:
    three = {**WORKLOAD["server"], "replicas": 3}
    one = session(
        scripted(TRIED, begin=60.0, end=600.0, promote=True),
        **hour(server=three, balance=[0.4, 0.3, 0.3]),
    )
    planned = one.server.planned(TRIED)
    assert planned is not None
    ready = sorted(pod.since for pod in one.service.pods)
    assert ready[1] == pytest.approx(600.0 + planned.warm)
    assert ready[2] == pytest.approx(600.0 + 2 * planned.warm)


def test_a_trial_that_is_taken_back_leaves_the_replicas_untouched() -> None:
    one = session(scripted(TRIED, begin=60.0, end=600.0, promote=False), **hour())
    assert [pod.name for pod in one.service.pods] == ["pod-0", "pod-1"]
    assert (one.told.starts, one.told.replica_starts) == (1, 1)
    assert [verdict.verdict for verdict in one.told.verdicts] == ["taken back"]
    assert one.told.promotions == []


def test_without_a_spare_gpu_nothing_is_tried_under_forbid() -> None:
    seen = []

    def look(now: float, readings: Sequence[PodReading], observed: Observed) -> Wanted:
        seen.append(observed.trial)
        return Wanted(observed.stable, TRIED)

    one = session(look, **hour(spareGPUs=0))
    assert one.told.starts == 0
    assert seen[1] == "NoRoom"


def test_without_a_spare_gpu_a_trial_takes_a_replicas_place_under_allow() -> None:
    look = scripted(TRIED, begin=60.0, end=600.0, promote=False)
    one = session(look, **hour(spareGPUs=0, disruption="Allow"))
    # The trial's start, and that of the stable pod which comes back.
    assert (one.told.starts, one.told.replica_starts) == (1, 2)
    assert [pod.knobs for pod in one.service.pods] == [one.server.start] * 2


def test_a_promoted_setting_that_is_given_up_is_rolled_back() -> None:
    first = scripted(TRIED, begin=60.0, end=600.0, promote=True)

    def look(now: float, readings: Sequence[PodReading], observed: Observed) -> Wanted:
        if now - EPOCH >= 1100.0:
            return Wanted(one.server.start, state="RollingBack")
        return first(now, readings, observed)

    told = workload(**hour())
    one = Session(Server(told["server"]), told, look)
    one.run()
    assert {pod.knobs for pod in one.service.pods} == {one.server.start}
    assert one.told.replica_starts == 2 + 2


def test_readings_are_the_samples_since_the_look_before() -> None:
    stamps: list[list[float]] = []

    def look(now: float, readings: Sequence[PodReading], observed: Observed) -> Wanted:
        (series,) = readings[0].series({"vllm:generation_tokens_total"})
        stamps.append([stamp - EPOCH for stamp, _ in series.samples])
        return Wanted(observed.stable)

    session(look)
    assert stamps[:2] == [[15.0, 30.0, 45.0, 60.0], [75.0, 90.0, 105.0, 120.0]]


def test_the_best_setting_keeps_the_objective_and_is_not_slower_than_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "COARSE", (4, 16, 32))
    monkeypatch.setattr(sweep, "COARSE_ABOVE", ())
    monkeypatch.setattr(sweep, "TOKENS", (2048,))
    arrivals = [{"minutes": 1, "kind": "closed", "clients": 40}]
    start = {"maxNumSeqs": 4, "maxNumBatchedTokens": 2048, "gpuMemoryUtilization": 0.9}
    told = workload(minutes=1, arrivals=arrivals, server={**WORKLOAD["server"], "start": start})
    replays = Replays(Server(told["server"]), told)
    knobs, outcome, kept = replays.best()
    first = replays.full(replays.server.start)
    assert first is not None
    assert kept
    assert knobs.max_num_seqs >= 24
    assert outcome.tokens > 3 * first.tokens


def test_where_the_start_serves_all_that_is_asked_for_it_is_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What is under way at the end of a quarter of an hour is more than of a day.
    monkeypatch.setattr(sweep, "ENOUGH", 0.99)
    replays = Replays(server(), workload())
    knobs, outcome, kept = replays.best()
    assert (knobs, kept) == (server().start, True)
    assert outcome.tokens == pytest.approx(outcome.offered, rel=1e-2)
