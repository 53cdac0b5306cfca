"""Plans for a person: where each GPU's bytes go, what fits, every argument with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from vllm_operator.api.performance import Cost, Drafts, Performance, Range, StepBound, StepBounds
from vllm_operator.api.plan import MemoryLedger, Placement, Plan, RejectedCandidate, Unplanned
from vllm_operator.api.quantity import GIBIBYTE

WIDEST_BAR: Final = 96
WIDE: Final = 100
"""Columns from which reasons stand beside their arguments; below, each stands under its own."""

Segment = tuple[str, int, str, str]
"""Name, bytes, style, and the character that draws it (so that it reads without colour)."""


def show_plans(console: Console, plans: Sequence[Plan | Unplanned]) -> None:
    """Print every plan."""
    for number, plan in enumerate(plans):
        if number:
            console.print()
        console.print(_plan(plan, console.width))


def _plan(plan: Plan | Unplanned, width: int) -> RenderableType:
    name = f"{plan.namespace}/{plan.name}" if plan.name else "a server without a name"
    style = "green" if plan.feasible else "red"
    parts: list[RenderableType] = [Rule(Text(name, style=f"bold {style}"), style=style)]
    if isinstance(plan, Plan):
        parts += _feasible(plan, width)
    else:
        parts.append(_problems(plan))
    if plan.rejected:
        parts += [_heading("Layouts that were not taken"), _rejected(plan)]
    return Group(*parts)


def _feasible(plan: Plan, width: int) -> list[RenderableType]:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column()
    for name, text in plan_facts(plan):
        facts.add_row(name, text)
    shown: list[RenderableType] = [Padding(facts, (0, 1))]
    if plan.placement.nodes > 1:
        note = (
            f"One replica takes {plan.placement.nodes} nodes. The operator runs it as a "
            "LeaderWorkerSet, an API that the cluster must have."
        )
        shown.append(Padding(Text(note, style="yellow"), (1, 1, 0, 1)))
    return [
        *shown,
        _heading(f"Memory of one {plan.placement.gpu}"),
        Padding(memory_of(plan.memory, width), (0, 1)),
        _heading("Arguments of vllm serve"),
        _flags(plan) if width >= WIDE else _stacked_flags(plan),
        *_defaults(plan),
        *_advice(plan),
    ]


def _advice(plan: Plan) -> Iterator[RenderableType]:
    """What the user may want to change."""
    if not plan.advice:
        return
    table = table_of("field", "what it would bring")
    for one in plan.advice:
        table.add_row(Text(one.field), Text(one.message))
    yield _heading("Not done unasked")
    yield table


def _defaults(plan: Plan) -> Iterator[RenderableType]:
    """What the server does not say itself and the platform gave it."""
    if not plan.defaults:
        return
    table = table_of("field", "value")
    for one in plan.defaults:
        table.add_row(Text(one.field), Text(one.value, style="cyan"))
    yield _heading("By the platform's defaults")
    yield table


def plan_facts(plan: Plan) -> Iterator[tuple[str, str]]:
    """What is planned, line by line."""
    capacity = plan.capacity
    billions = plan.model.parameters / 1e9
    yield "model", f"{plan.model.id}  ({billions:.2f} billion parameters, {plan.model.source})"
    yield "engine", f"vLLM {plan.engine.version}  {plan.engine.image}"
    yield "GPUs", _gpus(plan.placement)
    yield "requests", f"up to {capacity.max_model_len:,} tokens each"
    each = "" if plan.placement.data == 1 else " in each data-parallel rank"
    yield (
        "KV cache",
        f"{capacity.kv_tokens.low:,} to {capacity.kv_tokens.expected:,} tokens{each}: "
        f"{capacity.max_concurrency.low:g} to {capacity.max_concurrency.expected:g} such requests "
        "at once, more of shorter ones",
    )
    yield (
        "batch",
        f"at most {capacity.max_num_seqs:,} requests and "
        f"{capacity.max_num_batched_tokens:,} tokens a step{each}",
    )
    if (prefixes := plan.prefix_caching) is not None:
        cached = "cached" if prefixes.enabled else "not cached"
        yield "prefixes", f"{cached}: {prefixes.reason}"
    if plan.performance is not None:
        yield from _speed(plan.performance)
    if plan.cost is not None:
        yield "cost", _cost(plan.cost)
    placed = "://" in plan.model.id or plan.model.id.startswith("/")
    if plan.storage.disk_bytes is not None:
        yield (
            "disk",
            f"{plan.storage.disk_bytes / GIBIBYTE:.0f} GiB of the node's: "
            + ("caches" if placed else "each pod downloads the weights"),
        )
    if plan.storage.volume_bytes is not None:
        made = (
            f"from storage class {plan.storage.source}"
            if plan.storage.source
            else "from the default storage class"
        )
        yield "volume", f"{plan.storage.volume_bytes / GIBIBYTE:.0f} GiB for each pod, {made}"
    if plan.storage.buffer_bytes is not None:
        held = plan.storage.buffer_bytes / GIBIBYTE
        yield "streaming", f"{held:.0f} GiB of the node's memory besides: buffers for the weights"
    start = plan.startup
    yield "start", f"about {start.seconds:.0f} s, given up after {start.budget_seconds:.0f} s"


def _gpus(place: Placement) -> str:
    parts = [f"tensor parallel {place.tensor}"]
    parts += [f"pipeline parallel {place.pipeline}"] if place.pipeline > 1 else []
    parts += [f"data parallel {place.data}"] if place.data > 1 else []
    parts += ["whole experts"] if place.expert else []
    nodes = "1 node" if place.nodes == 1 else f"{place.nodes} nodes"
    split = ", ".join(parts)
    return f"{place.gpus_per_replica} x {place.gpu}, {split}, {nodes} of {place.gpus_per_node}"


def _speed(speed: Performance) -> Iterator[tuple[str, str]]:
    tokens = first = between = ""
    if (known := speed.ranges) is not None:
        made = known.output_tokens_per_second
        tokens = f"{made.low:,.0f} to {made.high:,.0f}; "
        first = _between(known.time_to_first_token)
        between = _between(known.inter_token_latency)
    yield (
        "speed",
        f"about {speed.output_tokens_per_second:,.0f} output tokens a second "
        f"({tokens}{speed.requests_per_second:g} requests/s) with {speed.concurrency:,} requests "
        f"of {speed.prompt_tokens} + {speed.output_tokens} tokens at once; "
        f"{seconds_of(speed.time_to_first_token)}{first} to the first token, "
        f"{seconds_of(speed.inter_token_latency)}{between} between tokens"
        f"{_per_request(speed)}"
        + ("" if speed.gpu_measured is None else f"; of a GPU measured {speed.gpu_measured}"),
    )
    if (by := speed.correction) is not None:
        yield (
            "corrected",
            f"throughput by {by.output_tokens_per_second - 1:+.0%} and time between tokens by "
            f"{by.inter_token_latency - 1:+.0%}: such a server was measured {by.measured_at}",
        )
    if speed.cached_prompt_tokens is not None:
        yield (
            "shared",
            f"{speed.cached_prompt_tokens:,} tokens of each prompt are found in the prefix cache",
        )
    if speed.bounds is not None:
        yield "bound", _bounds(speed.bounds)
    if speed.drafts is not None:
        yield "drafts", _drafts(speed.drafts)
    yield (
        "on a napkin",
        f"at most {speed.napkin_tokens_per_second:,.0f} tokens a second for a request alone: "
        "memory bandwidth over the bytes read for a token",
    )


def _cost(cost: Cost) -> str:
    hour = f"{cost.hour:g} {cost.currency} an hour ({cost.gpu_hour:g} a GPU)"
    if cost.million_output_tokens is None:
        return hour
    return (
        f"{hour}: {cost.million_output_tokens:g} for a million output tokens at that load, "
        f"{cost.million_tokens:g} for a million of prompts and outputs together"
    )


def _per_request(speed: Performance) -> str:
    each = speed.output_tokens_per_second_per_request
    return "" if each is None else f"; {each:g} tokens a second for each request"


def _bounds(bounds: StepBounds) -> str:
    turn = bounds.arithmetic_from_tokens
    return (
        f"generating by {_by(bounds.generating)}, steps with prompts by {_by(bounds.prompts)}"
        + ("" if turn is None else f"; matrices by arithmetic from {turn:,} tokens a step on")
    )


def _by(bound: StepBound) -> str:
    what = {"Overhead": "launches, communication and the host"}.get(bound.by, bound.by.lower())
    return f"{what} ({bound.share:.0%} of the time)"


def _drafts(drafts: Drafts) -> str:
    without = f"{drafts.output_tokens_per_second_without:,.0f} output tokens a second without them"
    from_on = drafts.break_even_acceptance
    pays = (
        "pay with no share accepted" if from_on is None else f"pay from {from_on:.0%} accepted on"
    )
    if drafts.acceptance is None or drafts.tokens_per_step is None:
        return f"{pays}; the figures above are without them (spec.workload.draftAcceptance)"
    return (
        f"{drafts.acceptance:.0%} accepted are {drafts.tokens_per_step:.3g} tokens of a request a "
        f"step; {without}; they {pays}"
    )


def _between(known: Range) -> str:
    return f" ({seconds_of(known.low)} to {seconds_of(known.high)})"


def seconds_of(value: float) -> str:
    """As ``1.5 s`` or ``20 ms``."""
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def _heading(text: str) -> RenderableType:
    return Padding(Text(text, style="bold"), (1, 1, 0, 1))


def _segments(memory: MemoryLedger) -> list[Segment]:
    draft, adapters = memory.draft_weights or 0, memory.adapters or 0
    parts: list[Segment] = [
        ("weights", memory.weights - draft - adapters, "blue", "█"),
        ("draft, to speculate", draft, "cyan", "▙"),
        ("LoRA adapters", adapters, "bright_blue", "▛"),
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


def memory_of(memory: MemoryLedger, width: int) -> RenderableType:
    """The bytes of one GPU as a bar, with its legend."""
    segments = _segments(memory)
    bar = Text()
    widths = _widths(segments, max(len(segments), min(WIDEST_BAR, width - 2)))
    for (_, _, style, mark), cells in zip(segments, widths, strict=True):
        bar.append(mark * cells, style=style)
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


def table_of(*columns: str) -> Table:
    """A table without lines."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 1))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _flags(plan: Plan) -> RenderableType:
    table = table_of("argument", "value", "why")
    for flag in plan.flags:
        table.add_row(Text(flag.name), Text(flag.value or "", style="cyan"), Text(flag.reason))
    return table


def _stacked_flags(plan: Plan) -> RenderableType:
    """Arguments for a narrow terminal: a column of reasons would be a few words wide."""
    lines: list[RenderableType] = []
    for flag in plan.flags:
        line = Text(flag.name)
        if flag.value is not None:
            line.append(f" {flag.value}", style="cyan")
        lines += [Padding(line, (0, 1)), Padding(Text(flag.reason, style="dim"), (0, 1, 0, 5))]
    return Group(*lines)


def _rejected(plan: Plan | Unplanned) -> RenderableType:
    table = table_of("layout", "why not")
    for candidate in plan.rejected:
        table.add_row(_layout(candidate), Text(candidate.reason))
    return table


def _layout(candidate: RejectedCandidate) -> Text:
    split = f"TP{candidate.tensor}"
    split += f" x PP{candidate.pipeline}" if candidate.pipeline > 1 else ""
    split += f", {candidate.nodes} nodes" if candidate.nodes > 1 else ""
    return Text(f"{candidate.gpu} {split}")


def _problems(plan: Unplanned) -> RenderableType:
    lines = Table.grid(padding=(0, 2))
    lines.add_column(overflow="fold")
    for problem in plan.problems:
        text = Text()
        text.append(problem.field, style="bold")
        text.append(f"  {problem.reason}\n", style="red")
        text.append(problem.message)
        lines.add_row(text)
    return Panel(lines, title="cannot be planned", border_style="red", title_align="left")
