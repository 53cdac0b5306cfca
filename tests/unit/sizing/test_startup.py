"""How long a start takes and may take."""

from __future__ import annotations

from typing import Any

import pytest

from unit.sizing.examples import H100, LLAMA_70B, QWEN_7B, inputs_for, plan_of, server
from vllm_operator.engine.versions import NEWEST_KNOWN, OLDEST
from vllm_operator.sizing.plan.planner import make_plan
from vllm_operator.sizing.plan.startup import figures

WEIGHTS = 15_231_233_024
LAYERS = 28


def seconds(storage: dict[str, Any] | None = None, **spec: Any) -> float:
    model = {"id": QWEN_7B, **({"storage": storage} if storage else {})}
    return float(plan_of(model, **spec).startup.seconds)


def test_a_start_is_its_processes_its_weights_and_the_compilation_of_its_layers() -> None:
    assert seconds() == pytest.approx(40 + WEIGHTS / 200e6 + LAYERS * 1.95, abs=0.1)


def test_an_eager_start_compiles_and_captures_nothing() -> None:
    saved = seconds() - seconds(engine={"enforceEager": True})
    assert saved == pytest.approx(LAYERS * 1.95, abs=0.1)


@pytest.mark.parametrize(
    ("storage", "rate"),
    [
        ({"persistentVolumeClaim": {"claimName": "m"}}, 200e6),
        ({"persistentVolumeClaim": {"claimName": "m", "mode": "Model"}}, 500e6),
        ({"hostPath": {"path": "/m"}}, 200e6),
        ({"hostPath": {"path": "/m", "mode": "Model"}}, 800e6),
        ({"image": {"reference": "a/b:c"}}, 800e6),
    ],
)
def test_weights_come_at_the_rate_of_what_they_are_read_from(
    storage: dict[str, Any], rate: float
) -> None:
    assert seconds() - seconds(storage) == pytest.approx(WEIGHTS / 200e6 - WEIGHTS / rate, abs=0.1)


def test_every_further_gpu_of_a_node_is_checked_for_peer_access() -> None:
    more = seconds(parallelism={"tensor": 4}) - seconds()
    assert more == pytest.approx(3 * 8, abs=0.1)


def test_a_stage_compiles_its_own_layers_only() -> None:
    staged = seconds(parallelism={"pipeline": 2})
    assert staged - seconds() == pytest.approx(8 - LAYERS / 2 * 1.95, abs=0.1)


def test_on_several_nodes_each_checks_its_own_gpus() -> None:
    both = server(LLAMA_70B, gpu=H100, parallelism={"tensor": 8, "pipeline": 2})
    two = make_plan(both, inputs_for(both, max_nodes=2))
    one = plan_of(LLAMA_70B, parallelism={"tensor": 8})
    assert (one.placement.nodes, two.placement.nodes) == (1, 2)
    fewer = two.startup.seconds - one.startup.seconds
    assert fewer == pytest.approx(-80 / 2 * 1.95, abs=0.1)  # half of 80 layers each


def test_a_budget_that_is_asked_for_is_taken_whatever_is_expected() -> None:
    asked = plan_of(QWEN_7B, rollout={"startupBudgetSeconds": 60}).startup
    assert (asked.budget_seconds, asked.seconds) == (60.0, plan_of(QWEN_7B).startup.seconds)


def test_the_budget_is_four_times_the_expected_time_and_at_least_twenty_minutes() -> None:
    assert plan_of(QWEN_7B).startup.budget_seconds == 1200
    large = plan_of(LLAMA_70B).startup
    assert large.budget_seconds == pytest.approx(4 * large.seconds, abs=1)


@pytest.mark.parametrize("version", [OLDEST, NEWEST_KNOWN])
def test_every_version_has_every_figure(version: Any) -> None:
    names = {"process", "ranks", "download", "claim", "node", "profile", "compile", "capture"}
    assert set(figures(version)) == names
