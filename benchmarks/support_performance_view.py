"""Every run beside its prediction, as a table and as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from rich.table import Table

from fitting.performance_rows import LeftOut
from fitting.performance_runs import Run
from vllm_operator.sizing.performance.batch import PerformanceEstimate

Pair = tuple[Run, PerformanceEstimate]

TARGET: Final = 0.15
"""Median error that is wanted, of the time per token and of the output throughput."""


def runs_table(pairs: Iterable[Pair]) -> Table:
    """Every run that is judged."""
    table = Table(title="Every run")
    for name in ("run", "model", "GPU", "TP", "prompt/output", "requests"):
        table.add_column(name, justify="left" if name in ("model", "GPU") else "right")
    for name in ("ms per token,\nmeasured", "predicted", "tokens/s,\nmeasured", "predicted"):
        table.add_column(name, justify="right")
    for run, found in sorted(pairs, key=lambda pair: pair[0].number):
        table.add_row(
            str(run.number),
            run.model.rpartition("/")[2],
            run.gpu_name.removeprefix("NVIDIA "),
            str(run.tensor),
            f"{run.prompt:.0f}/{run.output:.0f}",
            str(run.requests),
            f"{run.tpot * 1e3:.1f}" if run.tpot else "-",
            f"{found.inter_token_latency * 1e3:.1f}",
            f"{run.throughput:.0f}" if run.throughput else "-",
            f"{found.output_tokens_per_second:.0f}",
        )
    return table


def left_out_table(left_out: Iterable[LeftOut]) -> Table:
    """Every run that is not judged."""
    table = Table(title="Runs left out")
    table.add_column("run", justify="right")
    for name in ("model", "GPU", "reason"):
        table.add_column(name)
    for one in left_out:
        table.add_row(str(one.number), one.model, one.gpu_name, one.reason)
    return table


SIDE: Final = 420
MARGIN: Final = 60
COLOURS: Final = (
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b",
    "#e377c2", "#17becf", "#7f7f7f", "#bcbd22", "#393b79", "#637939",
)  # fmt: skip


def picture(pairs: Sequence[Pair]) -> str:
    """Predicted over measured as SVG, both axes logarithmic; the band is 15 % to either side."""
    models = sorted({run.model for run, _ in pairs})
    colour = {model: COLOURS[number % len(COLOURS)] for number, model in enumerate(models)}
    panels = (
        (
            "time per token, ms",
            [
                (run.model, run.tpot * 1e3, found.inter_token_latency * 1e3)
                for run, found in pairs
                if run.tpot
            ],
        ),
        (
            "output tokens a second",
            [
                (run.model, run.throughput, found.output_tokens_per_second)
                for run, found in pairs
                if run.throughput
            ],
        ),
    )
    width = 2 * (SIDE + 2 * MARGIN)
    height = SIDE + 2 * MARGIN + 18 * ((len(models) + 2) // 3) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, (title, points) in enumerate(panels):
        parts += _panel(MARGIN + number * (SIDE + 2 * MARGIN), title, points, colour)
    for number, model in enumerate(models):
        x = MARGIN + number % 3 * (width - MARGIN) // 3
        y = SIDE + 2 * MARGIN + 18 * (number // 3) + 10
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{colour[model]}"/>')
        parts.append(f'<text x="{x + 10}" y="{y}">{model}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    left: int, title: str, points: Sequence[tuple[str, float, float]], colour: dict[str, str]
) -> list[str]:
    values = [value for _, measured, predicted in points for value in (measured, predicted)]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def at(value: float) -> float:
        return SIDE * (math.log10(value) - low) / (high - low)

    top, bottom = MARGIN, MARGIN + SIDE
    shift = SIDE * math.log10(1 + TARGET) / (high - low)
    corners = (
        (left, bottom - shift), (left + SIDE - shift, top), (left + SIDE, top),
        (left + SIDE, top + shift), (left + shift, bottom), (left, bottom),
    )  # fmt: skip
    parts = [
        f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}" fill="#e8e8e8"/>',
        f'<rect x="{left}" y="{top}" width="{SIDE}" height="{SIDE}" fill="none" stroke="black"/>',
        f'<line x1="{left}" y1="{bottom}" x2="{left + SIDE}" y2="{top}" stroke="gray"/>',
        f'<text x="{left + SIDE / 2}" y="{top - 12}" text-anchor="middle">{title}</text>',
        f'<text x="{left + SIDE / 2}" y="{bottom + 36}" text-anchor="middle">measured</text>',
        f'<text x="{left - 40}" y="{top + SIDE / 2}" text-anchor="middle" '
        f'transform="rotate(-90 {left - 40} {top + SIDE / 2})">predicted</text>',
    ]
    for power in range(low, high + 1):
        offset, label = at(10.0**power), f"{10.0**power:g}"
        parts.append(
            f'<text x="{left + offset:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>'
            f'<text x="{left - 6}" y="{bottom - offset + 4:.1f}" text-anchor="end">{label}</text>'
        )
    parts += [
        f'<circle cx="{left + at(measured):.1f}" cy="{bottom - at(predicted):.1f}" r="3.5" '
        f'fill="{colour[model]}" fill-opacity="0.7"/>'
        for model, measured, predicted in points
    ]
    return parts
