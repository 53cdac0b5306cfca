"""Tuning's story of a server in words, and the curve that it learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from vllm_operator.api.ledger import TunedSetting, Tuning
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.lifecycle.remembered import Remembered
from vllm_operator.lifecycle.tuned import TRIALS_A_DAY, objective_of
from vllm_operator.tuning import story

from .curve import Chart, drawn, legend

PICTURE: Final = 90
"""The most columns of the picture."""


def show_trials(console: Console, tuning: Tuning) -> None:
    """How the trials of the status ended."""
    console.print(heading("Trials, the newest first"))
    for entry in tuning.history:
        console.print(Padding(Text(entry.ended_at, style="dim"), (0, 1)))
        for line in story.told_in_lines(entry):
            console.print(Padding(Text(line), (0, 1, 0, 3)))


def show_curve(console: Console, chart: Chart) -> None:
    """The curve, with what is marked on it."""
    console.print(heading(chart.title))
    console.print(Padding(drawn(chart, min(PICTURE, console.width - 2)), (0, 1)))
    for line in legend(chart):
        console.print(Padding(Text(line), (0, 1)))


def heading(text: str) -> Padding:
    """What stands above a part."""
    return Padding(Text(text, style="bold"), (1, 1, 0, 1))


def tuning_facts(
    server: VLLMServer, remembered: Remembered, tuning: Tuning | None
) -> Iterator[tuple[str, str]]:
    """What is said of tuning, line by line."""
    autotune = server.spec.autotune
    mode = (autotune.mode or "Disabled") if autotune else "Disabled"
    yield "mode", _mode(server, mode)
    yield "objective", _objective(server)
    metrics, tuned = remembered.condition("MetricsAvailable"), remembered.condition("Tuned")
    if metrics is not None and metrics.status != "True":
        yield "metrics", f"{metrics.reason}: {metrics.message}"
    reason = tuned.reason if tuned else (tuning.reason if tuning else "Observing")
    if tuning is None:
        if tuned is not None:
            yield "state", f"{tuned.reason}: {tuned.message}"
        yield "you can", story.advice(reason if mode != "Disabled" else "Disabled", mode)
        return
    yield "state", f"{tuning.state} since {tuning.since}"
    if tuned is not None and tuned.reason == "WindowUnreadable":
        yield "window", tuned.message
    if tuning.curve is not None:
        yield "learned with", _setting(tuning.curve.setting)
    trial = tuning.trial
    if tuning.diagnosis is not None:
        yield "bounded by", f"{tuning.diagnosis.bound}: {tuning.diagnosis.message}"
    elif trial is not None:
        yield "bounded by", trial.diagnosis
    if tuning.found:
        yield "found", tuning.found
    if trial is not None:
        word = "proposed" if tuning.state == "Proposed" else "tried"
        yield word, story.change(trial.source, trial.to)
        if trial.predicted is not None:
            yield "predicted", story.shares(trial.predicted)
        if trial.evidence is not None:
            yield "evidence", story.evidence(trial.evidence)
        if trial.pod is not None:
            yield "its pod", trial.pod
    yield "waits for", story.waits_for(tuning)
    yield "you can", story.advice(reason, mode)


def _mode(server: VLLMServer, mode: str) -> str:
    autotune = server.spec.autotune
    if autotune is None or mode == "Disabled":
        return mode
    most = TRIALS_A_DAY if autotune.max_trials_per_day is None else autotune.max_trials_per_day
    parts = [
        mode,
        f"disruption {autotune.disruption or 'Forbid'}",
        f"at most {most} trials a day",
    ]
    window = autotune.window
    if window is not None:
        zone = window.time_zone or "UTC"
        parts.append(
            f"trials from {window.schedule!r} on for {window.duration_minutes} min, {zone}"
        )
    return ", ".join(parts)


def _objective(server: VLLMServer) -> str:
    found = objective_of(server)
    if found is None:
        return "none: throughput, as long as the time between two tokens does not double"
    parts = []
    if found.inter_token_latency is not None:
        parts.append(f"gaps between tokens within {1000 * found.inter_token_latency:g} ms")
    if found.time_to_first_token is not None:
        parts.append(f"first tokens within {1000 * found.time_to_first_token:g} ms")
    return f"{found.percentile:g} % of {' and of '.join(parts)}"


def _setting(setting: TunedSetting) -> str:
    active = setting.max_num_active_seqs
    return ", ".join(
        [
            f"max-num-seqs {setting.max_num_seqs}",
            *([] if active is None else [f"max-num-active-seqs {active}"]),
            f"max-num-batched-tokens {setting.max_num_batched_tokens}",
            f"gpu-memory-utilization {setting.gpu_memory_utilization:g}",
        ]
    )
