"""What ``vllm-operator explain`` prints of a server's plan and of what it does now."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from support.builders import make_plan, server_manifest
from support.intervals import intervals
from unit.tuning.examples import hour, shipped
from vllm_operator.cli.curve import Mark
from vllm_operator.cli.explain_view import picture_of, show
from vllm_operator.cli.live import Live, read
from vllm_operator.diagnosis.look import Subject, look
from vllm_operator.sizing.performance.multipliers import Multipliers
from vllm_operator.tuning.candidates import Rules
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.intervals import Interval
from vllm_operator.tuning.knobs import Knobs
from vllm_operator.tuning.proposals import Planned
from vllm_operator.tuning.samples import Reading
from vllm_operator.tuning.scene import Facts

DURATIONS = Durations(15)
KNOBS = Knobs(16, 8192, 0.9)


def server(**status: Any) -> Live:
    body = server_manifest(replicas=2)
    plan = make_plan(capacity={**make_plan().capacity.to_json_object(), "maxNumSeqs": 16})
    body["status"] = {"plan": plan.to_json_object(), "endpoint": "http://qwen:8000/v1", **status}
    return read(body)


def seen(ones: list[Interval], facts: Facts | None = None) -> Live:
    end = ones[-1].end
    reading = Reading("qwen-1", tuple(ones), newest=end, scrape=15.0)
    return replace(server(), look=look([reading], Subject(KNOBS, facts=facts), DURATIONS, end))


def said(live: Live) -> str:
    out = io.StringIO()
    show(Console(file=out, width=140, highlight=False), live, DURATIONS)
    return re.sub(r"\s+", " ", out.getvalue())


def test_a_server_is_told_by_its_plan_and_what_its_memory_holds() -> None:
    told = said(server())
    for part in (
        "clients ask http://qwen:8000/v1",
        "model Qwen/Qwen2.5-7B-Instruct",
        "GPUs 2 x NVIDIA-H100-80GB-HBM3, tensor parallel 2",
        "Memory of one NVIDIA-H100-80GB-HBM3",
        "KV cache, sure",
    ):
        assert part in told


def test_without_metrics_it_is_said_what_is_missing() -> None:
    told = said(replace(server(), no_look="no Service has the usual labels"))
    assert "metrics no Service has the usual labels" in told
    assert "What bounds it" not in told


def test_figures_stand_with_bars_and_what_bounds_with_what_helps_and_costs() -> None:
    told = said(seen(intervals(40, running=16.0, waiting=9.0, cached_tokens=8_000.0)))
    for part in (
        "What it does now, over the last 30 min",
        "2 requests/s, 500 output tokens/s of 1 pod",
        "1,067 prompt tokens, 25% found in the prefix cache, and 250 of output",
        "100 ms to the first token, 15 ms between tokens: 66.7 tokens/s for a request",
        "16.0 of 16 requests run, 9.0 wait",
        "Sequences requests wait for a place, though the KV cache has room",
        "spec.engine.maxNumSeqs more than 16",
        "every replica starts anew, about 120 s each",
    ):
        assert part in told


def test_a_server_that_nothing_limits_needs_nothing() -> None:
    idle = dict.fromkeys(("steps", "gaps", "gap_seconds", "first_tokens"), 0.0)
    told = said(seen(intervals(40, running=0.0, **idle)))
    assert "Load it could do more" in told
    assert "metrics TooLittleTraffic" in told
    assert "fewer than 2" in told


@pytest.fixture(scope="module")
def proposed() -> Live:
    """Sixteen places are taken, and more would be better on the hardware as shipped."""
    ones = [
        replace(one, running=16.0, waiting=20.0, cache_usage=0.1)
        for one in hour(Multipliers(), lambda number: 15.0 + number % 3, number=280)
    ]
    facts = Facts(
        knobs=KNOBS,
        server_at=lambda knobs: shipped(knobs.max_num_batched_tokens, knobs.cap),
        plan_at=lambda knobs: Planned(400_000.0, 0.93),
        rules=Rules(),
    )
    return seen(ones, facts)


def test_what_is_forecast_stands_with_its_field_in_place_of_what_is_said_of_its_kind(
    proposed: Live,
) -> None:
    told = said(proposed)
    helps = told[told.index("What would help") :]
    assert re.search(r"max-num-seqs 16 -> \d+ forecast: \d+ tokens a second for a pod", helps)
    assert helps.count("spec.engine.maxNumSeqs") == 1


def test_the_curve_is_of_now_and_marks_what_would_help(proposed: Live) -> None:
    chart = picture_of(proposed)
    assert chart is not None
    assert chart.marks[0] == Mark("in force", 16)
    assert chart.marks[1].role == "would help"
    assert chart.marks[1].requests > 16


def test_without_either_there_is_no_picture() -> None:
    assert picture_of(server()) is None
