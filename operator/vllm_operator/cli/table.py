"""Plans for a person: where each GPU's bytes go, what fits, every argument with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from vllm_operator.api.plan import MemoryLedger, Plan

GIBIBYTE: Final = 1024**3
BAR_WIDTH: Final = 64

Segment = tuple[str, int, str, str]
"""Name, bytes, style, and the character that draws it (so that it reads without colour)."""


def show_plans(console: Console, plans: Sequence[Plan]) -> None:
    """Print every plan."""
    for number, plan in enumerate(plans):
        if number:
            console.print()
        console.print(_plan(plan))


def _plan(plan: Plan) -> RenderableType:
    name = f"{plan.namespace}/{plan.name}" if plan.name else "a server without a name"
    style = "green" if plan.feasible else "red"
    parts: list[RenderableType] = [Rule(Text(name, style=f"bold {style}"), style=style)]
    if plan.feasible:
        parts += _feasible(plan)
    else:
        parts.append(_problems(plan))
    if plan.rejected:
        parts += [_heading("Layouts that were not taken"), _rejected(plan)]
    return Group(*parts)


def _feasible(plan: Plan) -> list[RenderableType]:
    assert plan.model is not None
    assert plan.engine is not None
    assert plan.placement is not None
    assert plan.memory is not None
    assert plan.capacity is not None
    place, capacity = plan.placement, plan.capacity
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column()
    billions = plan.model.parameters / 1e9
    facts.add_row(
        "model", f"{plan.model.id}  ({billions:.2f} billion parameters, {plan.model.source})"
    )
    facts.add_row("engine", f"vLLM {plan.engine.version}  {plan.engine.image}")
    facts.add_row(
        "GPUs",
        f"{place.gpus_per_replica} x {place.gpu}, tensor parallel {place.tensor}, "
        f"{place.nodes} node of {place.gpus_per_node}",
    )
    facts.add_row("requests", f"up to {capacity.max_model_len:,} tokens each")
    facts.add_row(
        "KV cache",
        f"{capacity.kv_tokens.low:,} to {capacity.kv_tokens.expected:,} tokens: "
        f"{capacity.max_concurrency.low:g} to {capacity.max_concurrency.expected:g} such requests "
        "at once, more of shorter ones",
    )
    facts.add_row(
        "batch",
        f"at most {capacity.max_num_seqs:,} requests and "
        f"{capacity.max_num_batched_tokens:,} tokens a step",
    )
    if plan.performance is not None:
        speed = plan.performance
        facts.add_row(
            "speed",
            f"about {speed.output_tokens_per_second:,.0f} output tokens a second, "
            f"{1000 * speed.inter_token_latency:.3g} ms between tokens, at {speed.concurrency} "
            f"requests of {speed.prompt_tokens} + {speed.output_tokens} tokens",
        )
    if plan.startup is not None:
        facts.add_row(
            "start",
            f"about {plan.startup.seconds:.0f} s, "
            f"given up after {plan.startup.budget_seconds:.0f} s",
        )
    return [
        Padding(facts, (0, 1)),
        _heading(f"Memory of one {place.gpu}"),
        Padding(_memory(plan.memory), (0, 1)),
        _heading("Arguments of vllm serve"),
        _flags(plan),
    ]


def _heading(text: str) -> RenderableType:
    return Padding(Text(text, style="bold"), (1, 1, 0, 1))


def _segments(memory: MemoryLedger) -> list[Segment]:
    parts: list[Segment] = [
        ("weights", memory.weights, "blue", "█"),
        ("activation peak", memory.activation_peak, "magenta", "▓"),
        ("CUDA graphs", memory.cuda_graphs, "yellow", "▒"),
        ("other, inside the budget", memory.non_torch, "red", "▚"),
        ("KV cache, sure", memory.kv_cache.low, "green", "#"),
        ("KV cache, likely", memory.margin, "bright_green", "+"),
        ("outside the budget", memory.outside_budget, "bright_black", "░"),
    ]
    left = memory.total - memory.budget - memory.outside_budget
    parts.append(("left free", max(0, left), "dim", "·"))
    return [part for part in parts if part[1] > 0]


def _memory(memory: MemoryLedger) -> RenderableType:
    segments = _segments(memory)
    bar = Text()
    for (_, _, style, mark), width in zip(segments, _widths(segments, BAR_WIDTH), strict=True):
        bar.append(mark * width, style=style)
    legend = Table.grid(padding=(0, 2))
    legend.add_column()
    legend.add_column()
    legend.add_column(justify="right")
    legend.add_column(justify="right", style="dim")
    for name, size, style, mark in segments:
        legend.add_row(
            Text(mark * 2, style=style),
            name,
            f"{size / GIBIBYTE:.2f} GiB",
            f"{size / memory.total:.1%}",
        )
    total = Text(
        f"{memory.budget / GIBIBYTE:.2f} GiB for the engine: {memory.utilization:g} of "
        f"{memory.total / GIBIBYTE:.2f} GiB",
        style="dim",
    )
    return Group(bar, legend, total)


def _widths(segments: Sequence[Segment], width: int) -> list[int]:
    """Characters of each segment: at least one, in all ``width``, the rest by largest remainder."""
    total = sum(size for _, size, _, _ in segments)
    spare = width - len(segments)
    shares = [size * spare / total for _, size, _, _ in segments]
    widths = [1 + int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: int(shares[i]) - shares[i])
    for index in by_remainder[: width - sum(widths)]:
        widths[index] += 1
    return widths


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 1))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _flags(plan: Plan) -> RenderableType:
    table = _table("argument", "value", "why")
    for flag in plan.flags:
        table.add_row(Text(flag.name), Text(flag.value or "", style="cyan"), Text(flag.reason))
    return table


def _rejected(plan: Plan) -> RenderableType:
    table = _table("GPUs", "why not")
    for candidate in plan.rejected:
        table.add_row(Text(f"{candidate.tensor} x {candidate.gpu}"), Text(candidate.reason))
    return table


def _problems(plan: Plan) -> RenderableType:
    lines = Table.grid(padding=(0, 2))
    lines.add_column(overflow="fold")
    for problem in plan.problems:
        text = Text()
        text.append(problem.field, style="bold")
        text.append(f"  {problem.reason}\n", style="red")
        text.append(problem.message)
        lines.add_row(text)
    return Panel(lines, title="cannot be planned", border_style="red", title_align="left")
