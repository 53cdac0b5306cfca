"""What is made of the measurements: targets, tables, and the figures that others published."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

Results = Mapping[str, Any]

MB: Final = 1_000_000
LINEAR_WITHIN: Final = 1.25
"""A server may cost this many times as much in a larger fleet as in the smallest one."""

PEER: Final[Mapping[str, float]] = {
    "deployments_seconds": 87.0,
    "requests_a_server": 14.7,
    "image edit to the Deployment": 27.0,
    "deleted Deployment to its return": 47.0,
    "drift of the command to its repair": 37.0,
    "quiet_writes_a_second": 20.0,
    "restart_writes": 6269.0,
    "memory_mb": 88.0,
}
"""The nearest peer, an operator in Go, with 1,000 servers on such a control plane with 2 cores.

Measured elsewhere and at another time; printed for comparison, never used in a calculation.
"""

NAIVE_ELSEWHERE: Final[Mapping[str, float]] = {
    "deployments_seconds": 18.7,
    "requests_a_server": 5.0,
    "memory_mb": 75.0,
}
"""A naive loop measured elsewhere, with the peer; printed for comparison only."""


@dataclass(frozen=True)
class Target:
    """A promise beside what was measured."""

    name: str
    measured: float
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the promise was kept in this run."""
        return self.measured <= self.limit

    def to_json_object(self) -> dict[str, Any]:
        """As it stands in the results."""
        return {
            "name": self.name,
            "measured": self.measured,
            "limit": self.limit,
            "unit": self.unit,
            "met": self.met,
        }


def targets(results: Results) -> list[Target]:
    """Every promise that this run has measured."""
    found: list[Target] = []
    ours, naive = results.get("operator"), results.get("naive")
    if ours and naive:
        limit = naive["deployments_seconds"]
        found.append(Target("all Deployments, naive loop", ours["deployments_seconds"], limit, "s"))
    if ours:
        per_server = ours["requests"] / ours["servers"]
        found.append(Target("requests a server until settled", per_server, 8))
        found.append(Target("peak memory", ours["peak_bytes"] / MB, 150, "MB"))
    for kind, seconds in (results.get("reactions") or {}).items():
        found.append(Target(f"{kind}, slowest", max(seconds), 1, "s"))
    if quiet := results.get("quiet"):
        found.append(Target(f"writes in {quiet['seconds']:.0f} quiet s", quiet["writes"], 0))
    if restart := results.get("restart"):
        found.append(Target("writes on restart", restart["writes"], 0))
        found.append(Target("peak memory after restart", restart["peak_bytes"] / MB, 150, "MB"))
    if len(runs := results.get("linearity") or []) > 1:
        for key, name in (("deployments_seconds", "seconds"), ("cpu_seconds", "CPU")):
            share = [run[key] / run["servers"] for run in runs]
            growth = max(share) / share[0]
            found.append(Target(f"linear: {name} a server, growth", growth, LINEAR_WITHIN, "x"))
    return found


def show(console: Console, results: Results, promised: Sequence[Target]) -> None:
    """Print the tables."""
    console.print(_bring_up(results))
    console.print(_requests(results))
    if results.get("reactions"):
        console.print(_with_servers_present(results))
    if results.get("linearity"):
        console.print(_linearity(results["linearity"]))
    console.print(_targets(promised))


def _bring_up(results: Results) -> Table:
    runs = [results.get("naive"), results.get("operator")]
    servers = next(run["servers"] for run in runs if run)
    table = Table(title=f"{servers} servers from the first manifest on")
    table.add_column("")
    for title in ("naive loop", "vllm-operator"):
        table.add_column(title, justify="right")
    for title in ("nearest peer,\nas published *", "naive loop,\nas published *"):
        table.add_column(title, justify="right", style="dim")
    rows: list[tuple[str, str, float, str]] = [
        ("manifests applied, s", "applied_seconds", 1, ""),
        ("all Deployments there, s", "deployments_seconds", 1, "deployments_seconds"),
        ("all Deployments available, s", "available_seconds", 1, ""),
        ("settled, s", "settled_seconds", 1, ""),
        ("requests a server until settled", "requests", servers, "requests_a_server"),
        ("requests a server in the 5 s after", "requests_after", servers, ""),
        ("operator CPU, s", "cpu_seconds", 1, ""),
        ("control plane CPU, s", "control_plane_cpu_seconds", 1, ""),
        ("peak memory, MB", "peak_bytes", MB, "memory_mb"),
        ("memory when settled, MB", "steady_bytes", MB, ""),
    ]
    for label, key, unit, published in rows:
        measured = [f"{run[key] / unit:.1f}" if run else "-" for run in runs]
        elsewhere = [_known(figures.get(published)) for figures in (PEER, NAIVE_ELSEWHERE)]
        table.add_row(label, *measured, *elsewhere)
    table.caption = "* with 1,000 servers; measured elsewhere, not in this run"
    return table


def _requests(results: Results) -> Table:
    table = Table(title="Requests a server until settled (audit log)")
    table.add_column("request")
    runs = [results.get("naive"), results.get("operator")]
    kinds: dict[str, None] = {}
    for name, run in zip(("naive loop", "vllm-operator"), runs, strict=True):
        table.add_column(name, justify="right")
        table.add_column("answered in, ms", justify="right", style="dim")
        kinds.update(dict.fromkeys(run["requests_by_kind"] if run else {}))
    for kind in kinds:
        cells: list[str] = []
        for run in runs:
            if run and kind in run["requests_by_kind"]:
                cells.append(f"{run['requests_by_kind'][kind] / run['servers']:.2f}")
                cells.append(f"{run['answer_seconds_by_kind'][kind] * 1000:.1f}")
            else:
                cells += ["-", "-"]
        table.add_row(kind, *cells)
    return table


def _with_servers_present(results: Results) -> Table:
    servers = results["operator"]["servers"]
    table = Table(title=f"With the {servers} servers present")
    table.add_column("")
    for title in ("median", "slowest"):
        table.add_column(title, justify="right")
    table.add_column("nearest peer,\nas published *", justify="right", style="dim")
    for kind, seconds in results["reactions"].items():
        figures = (statistics.median(seconds), max(seconds))
        table.add_row(f"{kind}, s", *(f"{one:.3f}" for one in figures), _known(PEER.get(kind)))
    if quiet := results.get("quiet"):
        peer = f"{PEER['quiet_writes_a_second']:.0f} a second"
        table.add_section()
        table.add_row(f"writes in {quiet['seconds']:.0f} quiet s", "", str(quiet["writes"]), peer)
        table.add_row("  objects changed by anybody", "", str(quiet["changed_objects"]), "")
        table.add_row("  other requests", "", str(quiet["requests"] - quiet["writes"]), "")
        table.add_row("  operator CPU, s", "", f"{quiet['cpu_seconds']:.2f}", "")
    if restart := results.get("restart"):
        table.add_section()
        table.add_row("restart: SIGTERM to end, s", "", f"{restart['stop_seconds']:.2f}", "")
        table.add_row("  start to ready, s", "", f"{restart['ready_seconds']:.2f}", "")
        table.add_row("  start to idle, s", "", f"{restart['idle_seconds']:.2f}", "")
        table.add_row("  requests", "", str(restart["requests"]), "")
        table.add_row("  writes", "", str(restart["writes"]), _known(PEER["restart_writes"]))
        table.add_row("  operator CPU, s", "", f"{restart['cpu_seconds']:.2f}", "")
    table.caption = "* with 1,000 servers; measured elsewhere, not in this run"
    return table


def _linearity(runs: Sequence[Results]) -> Table:
    table = Table(title="Larger fleets (each from nothing, by a fresh process)")
    table.add_column("servers", justify="right")
    for title in ("applied", "Deployments", "settled", "CPU"):
        table.add_column(f"{title},\ns", justify="right")
        table.add_column("ms a\nserver", justify="right", style="cyan")
    table.add_column("peak,\nMB", justify="right")
    for run in runs:
        servers = run["servers"]
        cells: list[str] = []
        for key in ("applied_seconds", "deployments_seconds", "settled_seconds", "cpu_seconds"):
            cells += [f"{run[key]:.1f}", f"{run[key] * 1000 / servers:.1f}"]
        table.add_row(str(servers), *cells, f"{run['peak_bytes'] / MB:.0f}")
    return table


def _targets(promised: Sequence[Target]) -> Table:
    table = Table(title="Targets")
    table.add_column("target")
    for title in ("measured", "at most"):
        table.add_column(title, justify="right")
    table.add_column("")
    for target in promised:
        verdict = "[green]met[/green]" if target.met else "[red]not met[/red]"
        figures = (
            f"{figure:.4g} {target.unit}".strip() for figure in (target.measured, target.limit)
        )
        table.add_row(target.name, *figures, verdict)
    return table


def _known(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:,.6g}"
