"""Each figure of the benchmark of the tuner, on small workloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tuning_simulated

from enginesimulator.planned import Server
from enginesimulator.session import Look, Session, leave_alone, scripted
from enginesimulator.sweep import Replays
from support.simulated import WORKLOAD, workload
from vllm_operator.tuning.knobs import Knobs

SMALLER = Knobs(8, 2048, 0.9)
LONG = {"prompt": {"mean": 200, "sigma": 0.5}, "output": {"mean": 600, "sigma": 0.3}}
CLIENTS = [{"minutes": 12, "kind": "closed", "clients": 24, "lengths": LONG}]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_simulated, "CACHE", tmp_path)


def row(look: Look, best: tuple[float, bool], **changes: Any) -> dict[str, Any]:
    """The figures of a workload whose best setting is known."""
    told = workload(**changes)
    server = Server(told["server"])
    replays = Replays(server, told)
    held = {"setting": [64, 2048, 0.9], "tokens": best[0], "kept": best[1]}
    path = tuning_simulated.CACHE / f"{tuning_simulated._key(told)}.json"
    path.write_text(json.dumps(held))
    session = Session(server, told, look)
    return tuning_simulated.judged(told, server, replays, session.run(), session)


def test_where_nothing_is_to_gain_no_start_is_needed() -> None:
    found = row(leave_alone, (50.0, True))
    assert found["feasible"] is True
    assert found["reached"] == pytest.approx(50.0, rel=0.1)
    assert found["ratio"] == pytest.approx(found["reached"] / 50.0, rel=1e-3)
    assert (found["neededStarts"], found["starts"], found["needlessStarts"]) == (0, 0, 0)
    assert found["minutesToSettled"] == 1.0
    assert found["final"] == {
        "maxNumSeqs": 64,
        "maxNumActiveSeqs": None,
        "maxNumBatchedTokens": 2048,
        "gpuMemoryUtilization": 0.9,
        "sloKept": True,
        "state": "Settled",
    }


def test_a_trial_where_none_is_needed_is_a_needless_start() -> None:
    look = scripted(Knobs(72, 2048, 0.9), begin=60.0, end=400.0, promote=False)
    found = row(look, (50.0, True))
    assert (found["starts"], found["replicaStarts"], found["needlessStarts"]) == (1, 1, 1)
    assert found["verdicts"][0]["verdict"] == "taken back"
    assert found["verdicts"][0]["minute"] == 7.0


def test_where_more_is_to_gain_a_start_is_needed() -> None:
    found = row(leave_alone, (100.0, True))
    assert (found["neededStarts"], found["needlessStarts"]) == (1, 0)


def test_where_no_setting_keeps_the_objective_there_is_no_ratio() -> None:
    found = row(leave_alone, (50.0, False))
    assert (found["feasible"], found["ratio"]) == (False, None)


def test_a_slower_setting_that_is_promoted_is_a_regression() -> None:
    look = scripted(SMALLER, begin=60.0, end=400.0, promote=True)
    found = row(look, (1000.0, True), arrivals=CLIENTS)
    assert found["promotedRegression"] is True
    assert found["final"]["maxNumSeqs"] == 8
    assert found["promotedViolation"] is False


def test_a_setting_that_breaks_what_the_one_before_kept_is_a_violation_and_is_measured() -> None:
    slo = {"timeToFirstTokenMilliseconds": 1000, "percentile": 95}
    look = scripted(SMALLER, begin=60.0, end=400.0, promote=True)
    found = row(look, (1000.0, True), arrivals=CLIENTS, slo=slo)
    assert found["promotedViolation"] is True
    assert found["final"]["sloKept"] is False
    # From the promotion, in the seventh minute, to the end.
    assert 4 <= found["violationMinutesCaused"] <= 6


def test_a_tuner_that_does_nothing_causes_no_violation() -> None:
    slo = {"interTokenLatencyMilliseconds": 1, "percentile": 95}
    assert row(leave_alone, (50.0, False), slo=slo)["violationMinutesCaused"] == 0


def test_without_an_objective_the_latency_may_double() -> None:
    look = scripted(SMALLER, begin=60.0, end=400.0, promote=True)
    found = row(look, (1000.0, True), arrivals=CLIENTS, slo=None)
    assert found["final"]["sloKept"] is True
    assert found["violationMinutesCaused"] == 0


def test_a_start_that_is_absent_is_the_plans_own() -> None:
    told = {name: said for name, said in WORKLOAD["server"].items() if name != "start"}
    start = Server(told).start
    assert (start.max_num_seqs, start.max_num_batched_tokens) == (1024, 8192)


def test_the_committed_workloads_are_many_and_each_can_be_planned() -> None:
    found = [tuning_simulated.workloads([file]) for file in tuning_simulated.FILES]
    assert [len(one) for one in found] == [24, 24]
    every = tuning_simulated.workloads(tuning_simulated.FILES)
    assert sum("bend" in one["truth"] for one in every) >= 6
    for one in every:
        assert Server(one["server"]).planned(Server(one["server"]).start) is not None
        assert sum(phase["minutes"] for phase in one["arrivals"]) == one["minutes"]
        assert sum(one["balance"]) == pytest.approx(1.0, abs=1e-3)


def test_the_straight_line_is_fitted_to_latency_by_tokens_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replays = Replays(Server(WORKLOAD["server"]), workload())
    # 10 ms and 0.1 ms a token, of which half are generated: 40 ms are 300 tokens, 150 sequences.
    points = [(tokens, 0.01 + 1e-4 * tokens, tokens / 2) for tokens in (20.0, 40.0, 60.0)]
    monkeypatch.setattr(replays, "points", lambda: points)
    assert tuning_simulated.straight_line(replays).max_num_seqs == 144
