"""Tuning with the real engine and a real Prometheus: from metrics to another flag, by a trial.

`make demo-tune` shows the same to a person, `benchmarks/tuning_real_engine.py` measures it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcluster.tuning_bed import START_SECONDS, TuningBed
from realengine.clients import Clients
from realengine.environments import Environment

pytestmark = pytest.mark.timeout(2400)

FEW, CLIENTS = 4, 32
INTERVAL = 1.0
"""Seconds between two scrapes, of which every duration of tuning is a multiple. At half a second a
trial ended undecided on two idle processors."""
EVIDENCE, TRIAL = 900.0, 900.0
"""Seconds that it may take on a machine with other work; 300 and 60 on an idle one."""
ENDED_OTHERWISE = ("RollingBack", "CoolingDown", "Suspended")


def reach(bed: TuningBed, states: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """``status.tuning`` in one of these states. A trial that ends in another way fails."""
    said = f"tuning to be {' or '.join(states)}"
    found = bed.wait(lambda one: one["state"] in (*states, *ENDED_OTHERWISE), said, seconds)
    assert found["state"] in states, json.dumps(found, indent=1)
    return found


def running(bed: TuningBed) -> set[int]:
    """``--max-num-seqs`` of the ready pods' engines, as their own commands have it."""
    found = set()
    for name in bed.ready_pods():
        pod = bed.cluster.api("GET", f"/api/v1/namespaces/default/pods/{name}")
        command = pod["spec"]["containers"][0]["command"]
        found.add(int(command[command.index("--max-num-seqs") + 1]))
    return found


def test_a_server_that_is_short_of_sequences_gets_more_by_a_trial_beside_it(
    environment: Environment,
) -> None:
    with TuningBed(environment, INTERVAL, begin_at=FEW) as bed:
        bed.apply(bed.manifest({"mode": "Auto"}, maxNumBatchedTokens=512))
        bed.wait_ready()
        (first,) = bed.ready_pods()
        with Clients(CLIENTS, bed.ready_pods):
            told = reach(bed, ("Warming", "Judging", "Promoting"), EVIDENCE + START_SECONDS)
            assert told["trial"]["diagnosis"] == "Sequences"
            assert first in bed.ready_pods()
            assert running(bed) >= {FEW}
            reach(bed, ("Promoting", "Verifying"), TRIAL)
            told = reach(bed, ("Verifying",), START_SECONDS)
        assert running(bed) == {told["trial"]["to"]["maxNumSeqs"]}
        assert min(running(bed)) > FEW
        assert bed.condition("Ready")["status"] == "True"
