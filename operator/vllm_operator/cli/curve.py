"""The curve that tuning learned, drawn for a terminal and as SVG."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from vllm_operator.api.ledger import Tuning
from vllm_operator.tuning.knobs import Objective
from vllm_operator.tuning.ledger import knobs_of

from .drawing import Drawing

ROLES: Final = {
    "Proposed": "proposed",
    **dict.fromkeys(("Starting", "Warming", "Judging"), "on trial"),
    **dict.fromkeys(("Promoting", "Verifying"), "promoted"),
    "RollingBack": "taken back",
}
"""What the setting of ``status.tuning.trial`` is, by state."""
HEADROOM: Final = 1.15
FAR: Final = 6.0
"""Times the curve from which on an objective is told and not drawn."""
ROWS: Final = 14
GUTTER: Final = 9
"""Characters left of the terminal's picture."""
SIZE: Final = (720, 420)
EDGES: Final = (70, 50, 40, 60)
"""Pixels left, above, right and below the picture's area."""

Point = tuple[float, float, float]
"""Milliseconds: lower end, expected, upper end."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A setting on the curve."""

    role: str
    requests: int


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn: milliseconds between tokens over requests at once, on a logarithmic scale."""

    requests: Sequence[int]
    points: Sequence[Point]
    percentile: int | None
    limit: float | None
    """The objective, in milliseconds."""
    marks: Sequence[Mark]
    seen: tuple[int, int]
    note: str = ""

    @property
    def title(self) -> str:
        """What the curve shows."""
        if self.percentile is None:
            return "mean milliseconds between two tokens, by requests at once"
        return f"milliseconds within which {self.percentile} % of gaps are, by requests at once"

    @property
    def top(self) -> float:
        """The most that is drawn."""
        far = max([*(one.requests for one in self.marks), self.seen[1], self.requests[0]])
        shown = [
            point[1] for one, point in zip(self.requests, self.points, strict=True) if one <= far
        ]
        most = max([*shown, *(self.at(one.requests)[1] for one in self.marks)])
        near = self.limit is not None and self.limit <= FAR * most
        return HEADROOM * max(most, self.limit if near and self.limit else 0.0)

    def at(self, requests: float) -> Point:
        """Between two points in proportion to the logarithm; the last one beyond them."""
        place = bisect_left(self.requests, requests)
        if place == 0 or place == len(self.requests):
            return self.points[min(place, len(self.points) - 1)]
        low, high = self.requests[place - 1], self.requests[place]
        part = math.log(requests / low) / math.log(high / low)
        before, after = self.points[place - 1], self.points[place]
        first, second, third = (
            one + part * (other - one) for one, other in zip(before, after, strict=True)
        )
        return first, second, third

    def place(self, requests: float) -> float:
        """From 0 at the first point to 1 at the last."""
        most = math.log(self.requests[-1] / self.requests[0]) or 1.0
        return min(1.0, max(0.0, math.log(requests / self.requests[0]) / most))

    @property
    def ticks(self) -> list[int]:
        """Requests at once that are written below."""
        powers = range(int(math.log2(self.requests[-1])) + 1)
        return [2**one for one in powers if self.requests[0] <= 2**one]


def chart_of(tuning: Tuning, objective: Objective | None) -> Chart | None:
    """None where nothing was learned yet."""
    curve, trial = tuning.curve, tuning.trial
    if curve is None or not curve.points:
        return None
    here = knobs_of(curve.setting)
    if trial is None:
        marks = [Mark("chosen" if tuning.state == "Settled" else "learned with", here.cap)]
        note = ""
    else:
        to = knobs_of(trial.to)
        role = ROLES.get(tuning.state, "proposed")
        before = "in force" if role in ("proposed", "on trial") else "before"
        marks = [Mark(before, knobs_of(trial.source).cap), Mark(role, to.cap)]
        same = to.max_num_batched_tokens == here.max_num_batched_tokens
        note = "" if same else (
            f"the curve is of --max-num-batched-tokens {here.max_num_batched_tokens}; with "
            f"{to.max_num_batched_tokens} it is another one"
        )  # fmt: skip
    limit = objective.inter_token_latency if objective else None
    return Chart(
        requests=[one.requests for one in curve.points],
        points=[
            (gap.low / 1000, gap.expected / 1000, gap.high / 1000)
            for gap in (one.microseconds for one in curve.points)
        ],
        percentile=curve.percentile,
        limit=None if limit is None else 1000 * limit,
        marks=marks,
        seen=(curve.batch_low, curve.batch_high),
        note=note,
    )


def legend(chart: Chart) -> list[str]:
    """What the picture's parts mean, in words that do without it."""
    lines = [
        f"{mark.role}: {mark.requests} requests at once, "
        "{1:.1f} ms expected ({0:.1f} to {2:.1f})".format(*chart.at(mark.requests))
        for mark in chart.marks
    ]
    if chart.limit is not None:
        lines.append(f"objective: {chart.limit:g} ms")
    low, high = chart.seen
    lines.append(f"seen: {low} to {high} requests in a step; beyond, the model's own shape")
    return [*lines, chart.note] if chart.note else lines


def drawn(chart: Chart, width: int) -> Text:
    """The picture in characters, ``width`` of them in a line."""
    columns = max(20, width - GUTTER - 1)
    cells = [[" "] * columns for _ in range(ROWS)]
    top = chart.top

    def row(milliseconds: float) -> int:
        return ROWS - 1 - min(ROWS - 1, max(0, int(milliseconds / top * ROWS)))

    span = math.log(chart.requests[-1] / chart.requests[0])
    for column in range(columns):
        at = chart.requests[0] * math.exp(span * column / (columns - 1))
        low, expected, high = chart.at(at)
        if low < top:
            for one in range(row(min(high, top)), row(low) + 1):
                cells[one][column] = "░"
        if chart.limit is not None and chart.limit < top:
            cells[row(chart.limit)][column] = "-"
        if expected < top:
            cells[row(expected)][column] = "•"
    below = [" "] * columns
    for number, mark in enumerate(chart.marks):
        column = round(chart.place(mark.requests) * (columns - 1))
        sign = "◆" if number == len(chart.marks) - 1 else "○"
        cells[row(chart.at(mark.requests)[1])][column] = sign
    for tick in chart.ticks:
        text = str(tick)
        column = round(chart.place(tick) * (columns - 1))
        start = max(0, min(columns - len(text), column - len(text) // 2))
        room = below[max(0, start - 1) : start + len(text) + 1]
        if all(one == " " for one in room):
            below[start : start + len(text)] = text
    scale = {0: f"{top:.0f} ms", ROWS - 1: "0 ms"}
    if chart.limit is not None and chart.limit < top:
        scale.setdefault(row(chart.limit), f"{chart.limit:g} ms")
    lines = [
        f"{scale.get(number, ''):>{GUTTER - 2}} │{''.join(some).rstrip()}"
        for number, some in enumerate(cells)
    ]
    lines.append(" " * (GUTTER - 1) + "└" + "─" * columns)
    lines.append(" " * GUTTER + "".join(below).rstrip())
    marks = [
        f"{'◆' if mark is chart.marks[-1] else '○'} {mark.role} {mark.requests}"
        for mark in chart.marks
    ]
    signs = ["• expected", "░ its range"]
    if chart.limit is not None and chart.limit < top:
        signs.append("- objective")
    lines += [" " * GUTTER + "   ".join(some) for some in (signs, marks)]
    return Text("\n".join(lines), no_wrap=True)


def svg(chart: Chart, name: str) -> str:
    """The picture as an SVG document of its own."""
    width, height = SIZE
    left, above, right, below = EDGES
    inner, tall, top = width - left - right, height - above - below, chart.top

    def x(requests: float) -> float:
        return round(left + chart.place(requests) * inner, 1)

    def y(milliseconds: float) -> float:
        return round(above + tall * (1.0 - min(1.0, milliseconds / top)), 1)

    title = f"{name}: {chart.title}"
    drawing = Drawing(SIZE, title, "; ".join(legend(chart)), font_size=13)
    add = drawing.add
    add("text", title, x=left, y=24)
    along = [*chart.requests]
    upper = [f"{x(one)},{y(chart.at(one)[2])}" for one in along]
    lower = [f"{x(one)},{y(chart.at(one)[0])}" for one in reversed(along)]
    add("polygon", points=" ".join([*upper, *lower]), fill="#bcd4ee")
    curve = " ".join(f"{x(one)},{y(chart.at(one)[1])}" for one in along)
    add("polyline", points=curve, fill="none", stroke="#1f5fa8", stroke_width=2)
    axis = {"stroke": "black", "stroke_width": 1}
    add("line", x1=left, y1=above, x2=left, y2=above + tall, **axis)
    add("line", x1=left, y1=above + tall, x2=left + inner, y2=above + tall, **axis)
    for tick in chart.ticks:
        add("text", str(tick), x=x(tick), y=above + tall + 18, text_anchor="middle")
    add("text", "requests at once", x=left + inner / 2, y=height - 18, text_anchor="middle")
    for part in range(5):
        value = top * part / 4
        add("text", f"{value:.0f} ms", x=left - 6, y=y(value) + 4, text_anchor="end")
    if chart.limit is not None and chart.limit < top:
        at = y(chart.limit)
        dashed = {"stroke": "#b3261e", "stroke_dasharray": "6 4"}
        add("line", x1=left, y1=at, x2=left + inner, y2=at, **dashed)
        text = f"objective {chart.limit:g} ms"
        add("text", text, x=left + 6, y=at - 6, fill="#b3261e")
    for number, mark in enumerate(chart.marks):
        at_x, at_y = x(mark.requests), y(chart.at(mark.requests)[1])
        fill = "#1f5fa8" if number == len(chart.marks) - 1 else "white"
        add("circle", cx=at_x, cy=at_y, r=6, fill=fill, stroke="#1f5fa8", stroke_width=2)
        label = f"{mark.role} {mark.requests}"
        add("text", label, x=at_x, y=at_y - 12 - 16 * number, text_anchor="middle")
    if chart.note:
        add("text", chart.note, x=left, y=42, font_size=11)
    return drawing.document()
