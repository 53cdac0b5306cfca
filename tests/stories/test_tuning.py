"""Stories of a server that is tuned by its metrics: a real Prometheus, and a load in real time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from enginesimulator.live import Live
from stories.life import Life
from support.loaded import INTERVAL, SHORT_OF_SEQUENCES, ready_in_trials, server, versions
from support.trials import limits, uids

pytestmark = pytest.mark.timeout(1800)  # Prometheus may have to be built first

FEW = "14"
"""``--max-num-seqs`` of the plan."""
SLOWER = {
    **SHORT_OF_SEQUENCES,
    "arrivals": [{"minutes": 60, "kind": "closed", "clients": 80}],
    "truth": {"jitter": 0.03, "bend": {"batch": 16, "factor": 2.0}},
}
"""Steps of more sequences than now take twice as long: nothing that was seen said so. Of the
clients the trial's pod has as many as it admits; an interval counts with twenty steps in it."""


@contextmanager
def short_of_sequences(
    life: Life,
    workload: dict[str, Any] = SHORT_OF_SEQUENCES,
    interval: float = INTERVAL,
    **variables: str,
) -> Iterator[None]:
    """A server whose requests wait for a place while its GPU has room for more; it has to stay
    Ready in its trial."""
    with Live(workload) as live:
        life.reads_metrics(interval)
        life.serve(**server(live.url, **variables))
        life.ready()
        first = life.world.get("VLLMServer")
        assert len(uids(life.world, FEW)) == 2
        yield
        assert ready_in_trials(versions(life.world, first))


def test_a_better_setting_is_tried_promoted_and_watched(life: Life) -> None:
    with short_of_sequences(life):
        life.sees("Tuned=Unknown InCanary")
        life.sees("Tuned=True Promoted")
        life.ends_as_told()
    one, other = limits(life.world)
    assert one == other > int(FEW)


def test_a_setting_whose_engine_runs_out_of_memory_is_taken_back(life: Life) -> None:
    with short_of_sequences(life, SCRIPTED_MAX_SEQS="20"):
        before = uids(life.world, FEW)
        life.sees("Tuned=Unknown InCanary")
        life.ends_as_told()
    assert uids(life.world, FEW) == before
    assert life.verdicts() == ["RolledBack"]


def test_a_setting_that_is_slower_is_taken_back(life: Life) -> None:
    with short_of_sequences(life, SLOWER, 2 * INTERVAL):
        before = uids(life.world, FEW)
        life.sees("Tuned=Unknown InCanary")
        life.ends_as_told()
    assert uids(life.world, FEW) == before
    assert life.verdicts() == ["RolledBack"]


def test_a_trial_whose_metrics_are_lost_is_ended_and_not_promoted(life: Life) -> None:
    with short_of_sequences(life):
        before = uids(life.world, FEW)
        life.sees("Tuned=Unknown InCanary")
        life.cluster.stop_prometheus(kill=True)
        life.sees("MetricsAvailable=False Unreachable")
        life.ends_as_told()
    assert uids(life.world, FEW) == before
    assert life.verdicts() == ["Inconclusive"]
