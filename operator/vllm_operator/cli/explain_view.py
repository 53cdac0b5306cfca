"""A server for a person: what it is, what it does now, what bounds it, and what would help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from vllm_operator.api.ledger import Tuning
from vllm_operator.api.plan import Plan
from vllm_operator.diagnosis.figures import Figures
from vllm_operator.diagnosis.look import Look
from vllm_operator.diagnosis.remedies import MEANS, remedies
from vllm_operator.lifecycle.tuned import knobs_in_force, objective_of
from vllm_operator.tuning.diagnosis import Bound
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.ledger import knobs_of
from vllm_operator.tuning.proposals import Proposal

from .curve import Chart, Mark, chart_of
from .live import Live
from .table import memory_of, plan_facts, seconds_of, table_of
from .tuning_view import heading, show_curve, show_trials, tuning_facts

GAUGE: Final = 40
"""Columns of a bar that shows a share."""
KNOBS: Final = {
    "max-num-seqs": "spec.engine.maxNumSeqs",
    "max-num-active-seqs": "spec.engine.maxNumActiveSeqs",
    "max-num-batched-tokens": "spec.engine.maxNumBatchedTokens",
    "gpu-memory-utilization": "spec.engine.gpuMemoryUtilization",
}
"""By the flag the field that pins it."""
FULL: Final = 0.9
"""Share from which on a bar is drawn as one that is full."""


def show(console: Console, live: Live, durations: Durations) -> None:
    """Print all that is known of a server."""
    console.print(Rule(Text(live.name, style="bold")))
    console.print(_grid(_standing(live)))
    if live.plan is not None:
        console.print(heading("What it is"))
        console.print(_grid(plan_facts(live.plan)))
        console.print(heading(f"Memory of one {live.plan.placement.gpu}"))
        console.print(Padding(memory_of(live.plan.memory, console.width), (0, 1)))
    for part in _now(live, durations):
        console.print(part)
    tuning = live.remembered.status.tuning
    console.print(heading("Tuning"))
    console.print(_grid(tuning_facts(live.server, live.remembered, tuning)))
    if tuning is not None and tuning.history:
        show_trials(console, tuning)
    chart = picture_of(live)
    if chart is not None:
        show_curve(console, chart)


def picture_of(live: Live) -> Chart | None:
    """The curve as its metrics have it now, else as the status keeps it; None without either.

    What is proposed now is marked, where the curve is of its tokens a step as well.
    """
    tuning, look = live.remembered.status.tuning, live.look
    if look is None or look.curve is None:
        return chart_of(tuning, objective_of(live.server)) if tuning is not None else None
    now = Tuning(state="Observing", since="", reason="Observing", curve=look.curve)
    chart = chart_of(now, objective_of(live.server))
    found = look.choice
    if chart is None or not isinstance(found, Proposal):
        return chart
    here, there = knobs_of(look.curve.setting), found.knobs
    if there.max_num_batched_tokens != here.max_num_batched_tokens:
        return chart
    marks = [Mark("in force", here.cap), Mark("would help", there.cap)]
    return replace(chart, marks=marks)


def _grid(lines: Iterable[tuple[str, str]]) -> Padding:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for label, text in lines:
        facts.add_row(label, Text(text))
    return Padding(facts, (0, 1))


def _standing(live: Live) -> Iterator[tuple[str, str]]:
    status = live.remembered.status
    ready = live.remembered.condition("Ready")
    if ready is not None:
        yield "ready", f"{ready.status}, {ready.reason}: {ready.message}"
    if status.endpoint:
        yield "clients ask", status.endpoint
    for problem in status.problems:
        yield "problem", f"{problem.field}: {problem.message}"
    if live.no_plan:
        yield "its plan", live.no_plan
    if live.no_pods:
        yield "its pods", live.no_pods


def _now(live: Live, durations: Durations) -> Iterator[RenderableType]:
    look, plan = live.look, live.plan
    if look is None or plan is None:
        if live.no_look:
            yield heading("What it does now")
            yield _grid([("metrics", live.no_look)])
        return
    minutes = f"{durations.window / 60:.2g}"
    yield heading(f"What it does now, over the last {minutes} min")
    if look.held is not None:
        yield _grid([("metrics", f"{look.held.reason}: {look.held.message}")])
    if look.figures is not None:
        yield _grid(_figures(look.figures, plan))
        yield Padding(_gauges(look.figures, plan), (0, 1))
    if look.diagnosis is None:
        return
    bound = look.diagnosis.bound
    yield heading("What bounds it")
    yield _grid([(bound.value, MEANS[bound]), ("as seen", look.diagnosis.first.message)])
    yield heading("What would help")
    yield Padding(_helps(live, plan, look, bound), (0, 1))


def _figures(seen: Figures, plan: Plan) -> Iterator[tuple[str, str]]:
    expected = plan.performance
    per_pod = seen.output_tokens_per_second / seen.pods
    beside = ""
    if expected is not None:
        beside = (
            f"; a replica of {expected.concurrency:,} requests at once is expected to give "
            f"{expected.output_tokens_per_second:,.0f}"
        )
    yield (
        "traffic",
        f"{seen.requests_per_second:.3g} requests/s, {seen.output_tokens_per_second:,.0f} output "
        f"tokens/s of {_pods(seen.pods)} ({per_pod:,.0f} each{beside})",
    )
    if seen.prompt_tokens is not None and seen.output_tokens is not None:
        found = "" if seen.hit_rate is None else f", {seen.hit_rate:.0%} found in the prefix cache"
        yield (
            "a request",
            f"{seen.prompt_tokens:,.0f} prompt tokens{found}, and {seen.output_tokens:,.0f} of "
            "output",
        )
    first, gap = seen.time_to_first_token, seen.inter_token_latency
    if first is not None:
        speed = f"{seconds_of(first)} to the first token"
        if gap:
            speed += f", {seconds_of(gap)} between tokens: {1 / gap:.3g} tokens/s for a request"
        yield "latency", f"{speed} (means)"
    if seen.preemptions >= 0.005 or seen.failed > 0:
        yield (
            "trouble",
            f"{seen.preemptions:.2f} preemptions of a request, {seen.failed:.1%} end with an error",
        )


def _pods(number: int) -> str:
    return "1 pod" if number == 1 else f"{number} pods"


def _gauges(seen: Figures, plan: Plan) -> RenderableType:
    places = seen.pods * plan.placement.data * knobs_in_force(plan).cap
    shown = Table.grid(padding=(0, 2))
    shown.add_column(style="dim")
    shown.add_column(no_wrap=True)
    shown.add_column()
    waiting = f", {seen.waiting:,.1f} wait" if seen.waiting >= 0.05 else ", none waits"
    shown.add_row(
        "places",
        _bar(seen.running / places),
        f"{seen.running:,.1f} of {places:,} requests run{waiting}",
    )
    most = f"{seen.kv_cache_usage:.0%}, at most {seen.kv_cache_most:.0%}"
    shown.add_row("KV cache", _bar(seen.kv_cache_usage), most)
    if seen.hit_rate is not None:
        shown.add_row(
            "prefix hits", _bar(seen.hit_rate, more_is_worse=False), f"{seen.hit_rate:.0%}"
        )
    return shown


def _bar(share: float, *, more_is_worse: bool = True) -> Text:
    cells = round(min(1.0, max(0.0, share)) * GAUGE)
    style = "red" if more_is_worse and share >= FULL else "green"
    return Text("█" * cells, style=style).append("·" * (GAUGE - cells), style="dim")


def _helps(live: Live, plan: Plan, look: Look, bound: Bound) -> RenderableType:
    table = table_of("change", "gives", "costs")
    found = look.choice
    known: set[str] = set()
    if isinstance(found, Proposal):
        change, _, gives = found.message.partition(": ")
        start = "with compiling" if found.cold else "without compiling anew"
        costs = f"every replica starts anew, {start}, about {plan.startup.seconds:.0f} s each"
        known = {field for flag, field in KNOBS.items() if flag in change}
        fields = ", ".join(sorted(known))
        moved = Text(change, style="bold").append(f"\n{fields}", style="cyan")
        table.add_row(moved, Text(f"forecast: {gives}"), Text(costs))
    for one in remedies(bound, plan, live.server.spec.replicas):
        if one.field not in known:  # what is forecast says more
            table.add_row(
                Text(f"{one.field} {one.change}".strip()), Text(one.gives), Text(one.costs)
            )
    parts: list[RenderableType] = []
    if found is not None and not isinstance(found, Proposal):
        parts.append(Text(f"No setting is proposed ({found.reason}): {found.message}."))
    if not table.row_count:
        parts.append(Text("Nothing needs to be changed."))
        return Group(*parts)
    return Group(*parts, table)
