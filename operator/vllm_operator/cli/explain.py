"""``vllm-operator explain``: tuning's story of a server in words, and the curve that it learned."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from vllm_operator.api.ledger import TunedSetting, Tuning
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.errors import InputError
from vllm_operator.lifecycle.remembered import Remembered, read_server
from vllm_operator.lifecycle.tuned import TRIALS_A_DAY, objective_of
from vllm_operator.tuning import story

from .curve import chart_of, drawn, legend, svg
from .documents import read_manifests
from .run import give_home

UNREADABLE: Final = 2
PICTURE: Final = 90
"""The most columns of the picture."""


@click.command("explain")
@click.argument("name", required=False)
@click.option("-n", "--namespace", default=None, help="Namespace of the server; default.")
@click.option(
    "-f",
    "--filename",
    metavar="FILE",
    help="Server as kubectl get -o yaml prints it, instead of asking the cluster; - reads "
    "standard input.",
)
@click.option(
    "--svg",
    "picture",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Also write the curve as SVG.",
)
def explain_command(
    name: str | None, namespace: str | None, filename: str | None, picture: Path | None
) -> None:
    """Tell what tuning does with a server, and draw the curve that it learned.

    NAME is asked for in the cluster that KUBECONFIG names, or with -f looked for in a file.
    Exit status: 0, or 2 for a server that cannot be read.
    """
    try:
        bodies = _found(name, namespace, filename)
        if picture is not None and len(bodies) > 1:
            raise InputError(f"{len(bodies)} servers are found, and --svg draws one; give its NAME")
        console = Console(highlight=False)
        for body in bodies:
            _explain(console, body, picture)
    except InputError as problem:
        click.echo(f"Error: {problem}", err=True)
        sys.exit(UNREADABLE)


def _found(
    name: str | None, namespace: str | None, filename: str | None
) -> Sequence[Mapping[str, Any]]:
    if filename is None:
        if name is None:
            raise InputError("give the NAME of a server, or a file with -f")
        return [_live(namespace or "default", name)]
    bodies = [
        body
        for body in read_manifests(filename).servers
        if name in (None, _metadata(body).get("name"))
        and namespace in (None, _metadata(body).get("namespace", "default"))
    ]
    if not bodies:
        raise InputError(f"{filename} holds no server {namespace or 'default'}/{name}")
    return bodies


def _metadata(body: Mapping[str, Any]) -> Mapping[str, Any]:
    found = body.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _live(namespace: str, name: str) -> Mapping[str, Any]:
    give_home()
    # Imported here: a file is explained without a Kubernetes client.
    from vllm_operator.controller.client import connect
    from vllm_operator.controller.metrics import Metrics
    from vllm_operator.lifecycle.kinds import SERVERS

    async def asked() -> Mapping[str, Any] | None:
        client = await connect(Metrics())
        try:
            return await client.get(SERVERS, namespace, name)
        finally:
            await client.close()

    try:
        body = asyncio.run(asked())
    except Exception as error:  # of whatever library below
        remedy = "set KUBECONFIG, or give the server with -f"
        raise InputError(f"the cluster cannot be asked ({error}); {remedy}") from error
    if body is None:
        raise InputError(f"there is no server {namespace}/{name}; -n names another namespace")
    return body


def _explain(console: Console, body: Mapping[str, Any], picture: Path | None) -> None:
    if not isinstance(body.get("spec"), Mapping):
        raise InputError("the server has no spec")
    server, problems = read_server(body)
    if problems:
        raise InputError(f"{problems[0].field}: {problems[0].message}")
    status = body.get("status")
    remembered = Remembered.from_status(status if isinstance(status, Mapping) else None)
    tuning = remembered.status.tuning
    name = f"{server.metadata.namespace}/{server.metadata.name}"
    console.print(Rule(Text(name, style="bold")))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for label, text in _facts(server, remembered, tuning):
        facts.add_row(label, Text(text))
    console.print(Padding(facts, (0, 1)))
    if tuning is not None and tuning.history:
        console.print(_heading("Trials, the newest first"))
        for entry in tuning.history:
            console.print(Padding(Text(entry.ended_at, style="dim"), (0, 1)))
            for line in story.told_in_lines(entry):
                console.print(Padding(Text(line), (0, 1, 0, 3)))
    chart = chart_of(tuning, objective_of(server)) if tuning is not None else None
    if chart is None:
        if picture is not None:
            raise InputError(f"nothing was learned of {name} yet, so there is no curve to draw")
        return
    console.print(_heading(chart.title))
    console.print(Padding(drawn(chart, min(PICTURE, console.width - 2)), (0, 1)))
    for line in legend(chart):
        console.print(Padding(Text(line), (0, 1)))
    if picture is not None:
        try:
            picture.write_text(svg(chart, name), "utf-8")
        except OSError as problem:
            raise InputError(f"{picture}: {problem.strerror or problem}") from problem


def _heading(text: str) -> Padding:
    return Padding(Text(text, style="bold"), (1, 1, 0, 1))


def _facts(
    server: VLLMServer, remembered: Remembered, tuning: Tuning | None
) -> Iterator[tuple[str, str]]:
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
