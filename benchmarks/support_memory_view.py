"""What a person looks at: tables on the terminal and a picture of foretold beside measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from support_forecasts import Forecast
from support_logs import Class, Classified
from support_peer_packages import PACKAGES

TARGETS: Final = {
    "errorMedian": 0.03,
    "errorP90": 0.10,
    "overPromiseRate": 0.01,
    "shortMedian": 0.08,
    "shortP90": 0.20,
    "refusedRate": 0.05,
}


def picture(found: Sequence[Forecast]) -> str:
    """Foretold beside measured GiB of the KV cache, both on logarithmic axes, as SVG."""
    points = [one for one in found if one.scored and one.expected_gib > 0]
    ticks = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
    size, margin = 640, 60
    span = math.log(ticks[-1] / ticks[0])

    def at(value: float) -> float:
        inside = min(max(value, ticks[0]), ticks[-1])
        return math.log(inside / ticks[0]) / span * (size - 2 * margin)

    def x(value: float) -> float:
        return round(margin + at(value), 1)

    def y(value: float) -> float:
        return round(size - margin - at(value), 1)

    first, last = ticks[0], ticks[-1]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{size}" height="{size}" fill="white"/>',
    ]
    for tick in ticks:
        parts += [
            f'<path d="M{x(tick)} {y(first)}V{y(last)}M{x(first)} {y(tick)}H{x(last)}" '
            'stroke="#ddd"/>',
            f'<text x="{x(tick)}" y="{y(first) + 16}" text-anchor="middle">{tick:g}</text>',
            f'<text x="{x(first) - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>',
        ]
    parts.append(f'<path d="M{x(first)} {y(first)}L{x(last)} {y(last)}" stroke="#444"/>')
    for one in points:
        low_gib = max(one.low / one.expected * one.expected_gib, 0.0) if one.expected else 0.0
        colour = "#c0392b" if one.broken else "#2c6fbb"
        across = x(one.measured_gib)
        label = escape(f"{one.start.id} {one.start.model}, {one.start.gpu}, {one.start.version}")
        parts += [
            f'<path d="M{across} {y(low_gib)}V{y(one.expected_gib)}" stroke="{colour}" '
            'stroke-opacity="0.5"/>',
            f'<circle cx="{across}" cy="{y(one.expected_gib)}" r="3.5" fill="{colour}" '
            f'fill-opacity="0.8"><title>{label}</title></circle>',
        ]
    middle = size / 2
    parts += [
        f'<text x="{middle}" y="{size - 16}" text-anchor="middle">measured KV cache, GiB</text>',
        f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">'
        "foretold, GiB (dot: expected; line: down to low)</text>",
        f'<text x="{middle}" y="30" text-anchor="middle">{len(points)} starts; '
        "red: low above what was measured</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def show(console: Console, classified: Sequence[Classified], results: dict[str, Any]) -> None:
    """Print the tables."""
    console.print(_classes(classified))
    for title, name in (
        ("By family of models", "byModel"),
        ("By GPU", "byGPU"),
        ("By version of vLLM", "byVersion"),
        ("By engine", "byEngine"),
    ):
        console.print(_grouped(title, results[name]))
    console.print(_grouped("Held out together, structure in view", results["heldOut"]))
    console.print(_moved(results["residualGiB"], results["movedGiB"]))
    console.print(_refusals(results["starts"]))
    console.print(_failed(results["apart"]))
    console.print(_beside_peers(results["peers"], results["packages"]))
    console.print(_targets(results))


def _classes(classified: Sequence[Classified]) -> Table:
    table = Table(title=f"{len(classified)} logged starts")
    table.add_column("")
    table.add_column("starts", justify="right")
    table.add_column("which")
    reasons: dict[tuple[Class, str], list[str]] = {}
    for one in classified:
        reasons.setdefault((one.kind, one.reason), []).append(one.id)
    for kind in Class:
        for (found, reason), ids in reasons.items():
            if found is kind:
                title = f"{kind.value}: {reason}" if reason else kind.value
                table.add_row(title, str(len(ids)), "" if not reason else " ".join(ids))
    return table


def _grouped(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=title)
    table.add_column("")
    for name in ("starts", "compared", "error\nmedian", "error\np90", "over-\npromises"):
        table.add_column(name, justify="right")
    for name in ("short\nmedian", "short\np90", "refused"):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        table.add_row(
            name,
            str(row["starts"]),
            str(row["compared"]),
            _percent(row["errorMedian"]),
            _percent(row["errorP90"]),
            str(row["overPromises"]),
            _percent(row["shortMedian"]),
            _percent(row["shortP90"]),
            str(row["refused"]),
        )
    return table


def _moved(residuals: dict[str, float], moved: float) -> Table:
    table = Table(title="Median start of the newest releases")
    table.add_column("")
    table.add_column("beyond\nexpected, GiB", justify="right")
    for release, residual in residuals.items():
        table.add_row(release, f"{residual:+.2f}")
    table.caption = f"moved by {moved:.2f} GiB: what `low` of releases without a log gives up"
    return table


def _refusals(starts: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="Refused, though they started")
    for name in ("start", "model", "GPU", "problem"):
        table.add_column(name)
    for row in starts:
        if row["refused"]:
            problem = row["problem"] or "low is not above zero"
            table.add_row(row["id"], row["model"], f"{row['tensor']} x {row['gpu']}", problem[:200])
    return table


def _failed(apart: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="Listed apart: foretold, not scored")
    for name in ("start", "model", "why", "measured", "expected", "low"):
        table.add_column(name)
    for row in apart:
        figures = (
            (f"{row['measured']:.4g} {row['unit']}", f"{row['expected']:.4g}", f"{row['low']:.4g}")
            if row["unit"]
            else ("-", "no plan", "-")
        )
        table.add_row(row["id"], row["model"], row["reason"], *figures)
    return table


def _beside_peers(rows: Sequence[dict[str, Any]], own: dict[str, Any] | None) -> Table:
    table = Table(title="Beside published formulas (these are given the measured weights)")
    if own is None:
        names = " and ".join(package.name for package in PACKAGES)
        size = sum(package.installed_gib for package in PACKAGES)
        table.caption = (
            f"--packages asks {names} as their own packages, too: installed once, {size:g} GiB"
        )
    table.add_column("")
    for name in ("starts", "mean error,\nGiB", "bias,\nGiB", "error\nmedian", "error\np90"):
        table.add_column(name, justify="right")
    table.add_column("above\nmeasured", justify="right")
    for row in (*rows, *(own["rows"] if own else ())):
        if row["planner"] in (own or {}).get("unanswered", {}):
            table.add_section()
        table.add_row(
            row["planner"],
            str(row["starts"]),
            *("-" if row[k] is None else f"{row[k]:.2f}" for k in ("meanAbsoluteGiB", "biasGiB")),
            _percent(row["errorMedian"]),
            _percent(row["errorP90"]),
            str(row["above"]),
        )
    if own is not None:
        silent = (
            f"{name}: no answer for " + (", ".join(f"{n} ({why})" for why, n in reasons.items()))
            for name, reasons in own["unanswered"].items()
            if reasons
        )
        table.caption = "\n".join((*silent, *own["problems"]))
    return table


def _targets(results: dict[str, Any]) -> Table:
    total = results["summary"]
    table = Table(title=f"All scored starts, {results['coefficients']}")
    table.add_column("")
    for name in ("measured", "at most"):
        table.add_column(name, justify="right")
    table.add_column("")
    titles = {
        "errorMedian": "error of expected, median",
        "errorP90": "error of expected, p90",
        "overPromiseRate": "low above measured",
        "shortMedian": "low short of measured, median",
        "shortP90": "low short of measured, p90",
        "refusedRate": "refused, though they started",
    }
    for name, limit in TARGETS.items():
        value = total[name]
        met = value is not None and value <= limit
        verdict = "[green]met[/green]" if met else "[red]not met[/red]"
        table.add_row(titles[name], _percent(value), _percent(limit), verdict)
    low, high = total["overPromiseInterval"]
    table.caption = (
        f"{total['compared']} of {total['starts']} compared; {total['overPromises']} "
        f"over-promises, 95 % interval of the rate {_percent(low)} to {_percent(high)}; "
        f"{total['refused']} refused, {total['unknownModels']} of them as unknown models"
    )
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
