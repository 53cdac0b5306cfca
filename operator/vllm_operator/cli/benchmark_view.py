"""Results and comparisons on a terminal, and a comparison as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from vllm_operator.benchmark.comparison import Comparison, Difference
from vllm_operator.benchmark.results import (
    FIGURES,
    OUTPUT,
    TPOT,
    TTFT,
    Figure,
    Measured,
    Result,
)
from vllm_operator.benchmark.statistics import Spread, spread

from .drawing import Drawing

STYLES: Final = {"better": "green", "worse": "red"}
PANELS: Final = (OUTPUT, TTFT, TPOT)
SIZE: Final = (900, 360)
COLOURS: Final = ("#6b7280", "#1f5fa8")
ABOVE: Final = 84
BELOW: Final = 60
LEFT: Final = 60


def number(value: float) -> str:
    """Three digits, or whole."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _plus_minus(found: Spread) -> str:
    width = found.half_width
    return number(found.mean) + ("" if width is None else f" ± {number(width)}")


def print_result(console: Console, result: Result) -> None:
    """Each load of a result in a table of its own."""
    console.print(Rule(Text(f"{result.namespace}/{result.title}", style="bold")))
    plan = result.plan
    place = plan.placement
    console.print(
        Text(
            f"{plan.model.id}, vLLM {plan.engine.version}, {result.replicas} x "
            f"{place.gpus_per_replica} {place.gpu}, {result.load}"
        )
    )
    for one in result.points:
        console.print(Padding(_heading(one), (1, 0, 0, 0)))
        console.print(_table(one))
    if any(len(one.runs) < 2 for one in result.points):
        console.print(Text("one run says nothing of noise: no interval", style="dim"))


def _heading(one: Measured) -> Text:
    runs = "1 run" if len(one.runs) == 1 else f"{len(one.runs)} runs"
    text = Text(f"{one.point}, {runs} of {one.point.prompts} requests", style="bold")
    if one.failed:
        text.append(f", {one.failed} failed", style="red")
    return text


def _table(one: Measured) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 1))
    for column in ("", "mean", "P50", "P90", "P99", "predicted", "off by"):
        table.add_column(column, justify="left" if not column else "right")
    for figure in FIGURES:
        found = spread(one.values(figure.name))
        if found is None:
            continue
        expected = (one.predicted or {}).get(figure.name)
        off = f"{expected / found.mean - 1:+.0%}" if expected and found.mean else ""
        table.add_row(
            f"{figure.label}{', ' if figure.unit else ''}{figure.unit}",
            _plus_minus(found),
            *(_percentile(one, figure, percent) for percent in (50, 90, 99)),
            number(expected) if expected is not None else "",
            off,
        )
    return table


def _percentile(one: Measured, figure: Figure, percent: int) -> str:
    name = figure.percentile(percent)
    found = spread(one.values(name)) if name else None
    return number(found.mean) if found else ""


def print_list(console: Console, results: Sequence[Result]) -> None:
    """One line for each result."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 1))
    table.add_column("result", no_wrap=True)
    for column in ("load", "best output tokens/s", "with", "vLLM", "GPUs"):
        table.add_column(column, overflow="fold")
    for result in results:
        best = max(
            ((spread(one.values(OUTPUT.name)), one) for one in result.points if one.runs),
            key=lambda one: one[0].mean if one[0] else 0.0,
            default=(None, None),
        )
        place = result.plan.placement
        table.add_row(
            result.title,
            str(result.load),
            _plus_minus(best[0]) if best[0] else "",
            str(best[1].point) if best[1] else "",
            result.plan.engine.version,
            f"{result.replicas} x {place.gpus_per_replica} {place.gpu}",
        )
    console.print(table)


def print_comparison(console: Console, found: Comparison) -> None:
    """What changed in the plan, each load in a table, and the verdict."""
    names = f"{found.before.title} -> {found.after.title}"
    console.print(Rule(Text(names, style="bold")))
    console.print(Text(f"plan: {found.plan or 'no difference'}"))
    for note in found.notes:
        console.print(Text(note, style="yellow"))
    for one in found.points:
        console.print(Padding(Text(str(one.point), style="bold"), (1, 0, 0, 0)))
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 1))
        for column in ("", "before", "after", "change", "verdict"):
            table.add_column(column, justify="right" if column in ("before", "after") else "left")
        for each in one.differences:
            table.add_row(*_cells(each))
        console.print(table)
    console.print(Padding(Text(found.verdict, style="bold"), (1, 0, 0, 0)))


def _cells(one: Difference) -> Iterator[Text]:
    unit = f", {one.figure.unit}" if one.figure.unit else ""
    yield Text(one.figure.label + unit)
    yield Text(_plus_minus(one.before))
    yield Text(_plus_minus(one.after))
    yield Text(one.interval)
    yield Text(one.verdict, style=STYLES.get(one.verdict, ""))


def svg(found: Comparison) -> str:
    """Three figures over the loads that both have, the two results side by side, with intervals."""
    title = f"{found.before.title} (grey) and {found.after.title} (blue)"
    drawing = Drawing(SIZE, title, found.verdict, font_size=12)
    drawing.add("text", title, x=16, y=24, font_size=14)
    for line, text in enumerate((found.plan or "the same plan", found.verdict)):
        shown = text if len(text) < 140 else f"{text[:138]}…"
        drawing.add("text", shown, x=16, y=42 + 16 * line, font_size=11)
    each = SIZE[0] / len(PANELS)
    for panel, figure in enumerate(PANELS):
        _panel(drawing, found, figure, panel * each, each)
    return drawing.document()


def _panel(drawing: Drawing, found: Comparison, figure: Figure, left: float, wide: float) -> None:
    bottom, floor = SIZE[1] - BELOW, left + LEFT
    inner, tall = wide - LEFT - 16, SIZE[1] - BELOW - ABOVE - 16
    shown = [(one.point, one.of(figure)) for one in found.points]
    pairs = [(point, one) for point, one in shown if one is not None]
    tops = [
        each.mean + (each.half_width or 0.0) for _, one in pairs for each in (one.before, one.after)
    ]
    top = 1.1 * max(tops, default=1.0) or 1.0

    def y(value: float) -> float:
        return round(bottom - tall * min(1.0, max(0.0, value / top)), 1)

    unit = f", {figure.unit}" if figure.unit else ""
    drawing.add("text", figure.label + unit, x=floor, y=ABOVE + 4, font_size=13)
    axis = {"stroke": "black", "stroke_width": 1}
    drawing.add("line", x1=floor, y1=bottom - tall, x2=floor, y2=bottom, **axis)
    drawing.add("line", x1=floor, y1=bottom, x2=floor + inner, y2=bottom, **axis)
    for part in range(5):
        value = top * part / 4
        drawing.add("text", number(value), x=floor - 6, y=y(value) + 4, text_anchor="end")
    step = inner / max(1, len(pairs))
    bar = min(28.0, step / 3)
    for place, (point, one) in enumerate(pairs):
        middle = floor + step * (place + 0.5)
        below = str(point.concurrency or f"{point.request_rate:g}/s")
        drawing.add("text", below, x=round(middle, 1), y=bottom + 18, text_anchor="middle")
        for side, each in enumerate((one.before, one.after)):
            x = round(middle + (side - 1) * bar, 1)
            at = y(each.mean)
            size = {"width": round(bar - 2, 1), "height": round(bottom - at, 1)}
            drawing.add("rect", x=x, y=at, fill=COLOURS[side], **size)
            if each.half_width is not None:
                ends = (y(each.mean - each.half_width), y(each.mean + each.half_width))
                at_x = round(x + bar / 2 - 1, 1)
                drawing.add("line", x1=at_x, y1=ends[0], x2=at_x, y2=ends[1], **axis)
    drawing.add(
        "text", "requests at once", x=floor + inner / 2, y=bottom + 38, text_anchor="middle"
    )
