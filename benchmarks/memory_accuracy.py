"""How well the memory model foretells real starts of vLLM, beside what other planners publish.

    PYTHONPATH=operator:tools python benchmarks/memory_accuracy.py

Each start whose log was published is planned with everything pinned as it ran, and the plan's KV
cache is compared with the one that vLLM found. Coefficients are fitted afresh for each of ten folds
on the starts of other sources only (``--in-sample`` takes them as they stand). Prints tables and
writes build/benchmarks/memory_accuracy.json and .svg.
"""

from __future__ import annotations

import importlib
import json
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, Final, Literal

import click
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from support_logs import LOGS, Class, Classified, LoggedStart, classify, read_rows
from support_peer_packages import PACKAGES, PackageUnavailable, Planner, planners
from support_peers import PEERS, PeerFacts, facts_of

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.defaults import OFFICIAL_IMAGE
from vllm_operator.engine.versions import DEFAULT_IMAGE
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.models.facts import ModelFacts
from vllm_operator.sizing import coefficients
from vllm_operator.sizing.planner import PlanningInputs, make_plan

GIBIBYTE: Final = 1024**3
FOLDS: Final = 10
RESULT: Final = Path("build/benchmarks/memory_accuracy.json")
PICTURE: Final = RESULT.with_suffix(".svg")
ONLINE: Final = frozenset({"fp8", "bitsandbytes"})
"""Methods that quantise a checkpoint on the fly, where the checkpoint itself is not quantised."""
WHEEL_IMAGE: Final = "example.com/vllm-wheel"
"""Stands for an engine of which nobody says how it was installed."""
ROUNDING_GIB: Final = 0.005
"""Logs round to two digits: a bound that is above by less is not broken."""

TARGETS: Final = {
    "errorMedian": 0.03,
    "errorP90": 0.10,
    "overPromiseRate": 0.01,
    "shortMedian": 0.08,
    "shortP90": 0.20,
    "refusedRate": 0.05,
}

Unit = Literal["GiB", "tokens", "concurrency"]
Fit = Callable[[Sequence[LoggedStart]], str]
Use = Callable[[str], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Forecast:
    """A start beside its plan. ``expected``, ``low`` and ``measured`` are in ``unit``."""

    start: LoggedStart
    problem: str
    """Why there is no plan with the start's own length; empty where there is one."""
    unit: Unit | None = None
    """None where even a shorter length gives no plan."""
    expected: float = 0.0
    low: float = 0.0
    measured: float = 0.0
    expected_gib: float = 0.0
    measured_gib: float = 0.0
    """As logged, else in proportion to ``measured``."""
    weights_gib: float = 0.0
    facts: PeerFacts | None = None

    @property
    def refused(self) -> bool:
        """Whether a start that went well would have been refused."""
        return self.start.started and (
            bool(self.problem) or (self.unit is not None and self.low <= 0)
        )

    @property
    def scored(self) -> bool:
        """Whether there are figures to compare."""
        return self.unit is not None and self.measured > 0

    @property
    def error(self) -> float:
        """Distance of the best estimate, relative to what was measured."""
        return abs(self.expected - self.measured) / self.measured

    @property
    def broken(self) -> bool:
        """Whether the bound promised more than there was."""
        slack = ROUNDING_GIB if self.unit == "GiB" else 0.0
        return self.low > self.measured + slack

    @property
    def short(self) -> float:
        """How far the bound stays below what was measured."""
        return max(0.0, (self.measured - self.low) / self.measured)


def manifest(start: LoggedStart, facts: ModelFacts | None, *, length: bool = True) -> VLLMServer:
    """The server that runs as the logged one did; without ``length``, as long as fits."""
    quantised = facts is not None and bool(facts.config.get("quantization_config"))
    online = start.quantization in ONLINE and facts is not None and not quantised
    engine = {
        "image": f"{OFFICIAL_IMAGE if start.flashinfer else WHEEL_IMAGE}:v{start.version}",
        "version": start.version,
        "gpuMemoryUtilization": start.utilization,
        "maxModelLen": start.max_model_len if length else None,
        "maxNumSeqs": start.max_num_seqs,
        "maxNumBatchedTokens": start.max_num_batched_tokens,
        "enforceEager": start.enforce_eager or None,
        "dtype": start.dtype,
        "kvCacheDtype": start.kv_cache_dtype,
        "blockSize": start.block_size,
        "prefixCaching": start.prefix_caching,
        "quantization": start.quantization if online else None,
    }
    return VLLMServer.model_validate(
        {
            "apiVersion": "vllm-operator.io/v1alpha1",
            "kind": "VLLMServer",
            "metadata": {"name": start.id.lower()},
            "spec": {
                "model": {"id": start.model},
                "engine": {name: value for name, value in engine.items() if value is not None},
                "gpu": {
                    "product": start.gpu,
                    "perNode": start.tensor * start.pipeline * start.data,
                    **({"memoryGiB": start.gpu_memory_gib} if start.gpu_memory_gib else {}),
                    "resourceName": start.resource_name,
                },
                "parallelism": {
                    "tensor": start.tensor,
                    **({"pipeline": start.pipeline} if start.pipeline > 1 else {}),
                    **({"data": start.data} if start.data > 1 else {}),
                },
            },
        }
    )


def forecast(start: LoggedStart) -> Forecast:
    """Plan a logged start and compare.

    Where its own length does not fit, the start counts as refused, and its figures come from a plan
    with the longest request that fits.
    """
    facts = catalogue.find(start.model)
    if facts is None:
        return Forecast(start, f"{start.model} is not in the catalogue")
    inputs = PlanningInputs(model=facts, default_image=DEFAULT_IMAGE)
    try:
        plan = make_plan(manifest(start, facts), inputs)
    except ValidationError as error:
        first = error.errors()[0]
        return Forecast(start, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    problem = "" if plan.feasible else "; ".join(f"{p.field}: {p.message}" for p in plan.problems)
    if not plan.feasible:
        plan = make_plan(manifest(start, facts, length=False), inputs)
    return _compared(start, plan, problem, facts)


def _compared(start: LoggedStart, plan: Plan, problem: str, facts: ModelFacts) -> Forecast:
    memory, capacity = plan.memory, plan.capacity
    if memory is None or capacity is None:
        return Forecast(start, problem)
    architecture = architecture_from_config(facts.config)
    unit: Unit
    if start.kv_gib is not None:
        unit, measured = "GiB", start.kv_gib
        expected, low = memory.kv_cache.expected / GIBIBYTE, memory.kv_cache.low / GIBIBYTE
    elif start.max_concurrency is not None and not problem and _several_caches(architecture):
        unit, measured = "concurrency", start.max_concurrency
        expected, low = capacity.max_concurrency.expected, capacity.max_concurrency.low
    elif start.kv_tokens is not None:
        unit, measured = "tokens", float(start.kv_tokens)
        expected, low = float(capacity.kv_tokens.expected), float(capacity.kv_tokens.low)
    else:
        return Forecast(start, problem)
    expected_gib = memory.kv_cache.expected / GIBIBYTE
    return Forecast(
        start=start,
        problem=problem,
        unit=unit,
        expected=expected,
        low=low,
        measured=measured,
        expected_gib=expected_gib,
        measured_gib=measured / expected * expected_gib if expected else 0.0,
        weights_gib=memory.weights / GIBIBYTE,
        facts=facts_of(architecture),
    )


def _several_caches(architecture: Any) -> bool:
    """Whether tokens are an accounting figure: layers keep unlike things of a sequence."""
    return len({layer.cache for layer in getattr(architecture, "kinds", ()) if layer.cache}) > 1


def folds(starts: Sequence[LoggedStart], count: int, seed: int) -> list[list[LoggedStart]]:
    """The starts in ``count`` parts of about one size; no source stands in two of them."""
    by_source: dict[str, list[LoggedStart]] = {}
    for start in starts:
        by_source.setdefault(start.source, []).append(start)
    sources = sorted(by_source)
    random.Random(seed).shuffle(sources)
    sources.sort(key=lambda source: -len(by_source[source]))
    parts: list[list[LoggedStart]] = [[] for _ in range(count)]
    for source in sources:
        min(parts, key=len).extend(by_source[source])
    return [part for part in parts if part]


def cross_validated(starts: Sequence[LoggedStart], fit: Fit, use: Use, seed: int) -> list[Forecast]:
    """Forecasts of every start, each by coefficients that no start of its source went into."""
    found: dict[str, Forecast] = {}
    for part in folds(starts, FOLDS, seed):
        held_out = {start.source for start in part}
        with use(fit([start for start in starts if start.source not in held_out])):
            found |= {start.id: forecast(start) for start in part}
    return [found[start.id] for start in starts]


def fitting() -> tuple[Fit, Use]:
    """The project's fitting script; raises ``ClickException`` where it is missing."""
    try:
        module = importlib.import_module("fitting.fit_memory")
        fit: Fit = module.fit
        use: Use = vars(coefficients)["use"]
    except (ImportError, AttributeError, KeyError) as problem:
        raise click.ClickException(
            "tools/fitting/fit_memory.py or coefficients.use is missing; "
            "give --in-sample to take the coefficients as they stand"
        ) from problem
    return fit, use


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate."""
    if trials == 0:
        return 0.0, 1.0
    z = 1.959964
    rate, spread = successes / trials, z * z / trials
    centre = rate + spread / 2
    half = z * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials))
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    return max(0.0, low), min(1.0, high)


def quantile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that ``share`` of them do not exceed; None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def summary(found: Sequence[Forecast]) -> dict[str, Any]:
    """The figures of some forecasts."""
    compared = [one for one in found if one.scored]
    started = [one for one in found if one.start.started]
    broken = [one for one in compared if one.broken]
    refused = [one for one in found if one.refused]
    errors = [one.error for one in compared]
    shorts = [one.short for one in compared]
    return {
        "starts": len(found),
        "compared": len(compared),
        "errorMedian": statistics.median(errors) if errors else None,
        "errorP90": quantile(errors, 0.9),
        "overPromises": len(broken),
        "overPromiseRate": len(broken) / len(compared) if compared else None,
        "overPromiseInterval": interval(len(broken), len(compared)),
        "shortMedian": statistics.median(shorts) if shorts else None,
        "shortP90": quantile(shorts, 0.9),
        "refused": len(refused),
        "refusedRate": len(refused) / len(started) if started else None,
        "unknownModels": sum(catalogue.find(one.start.model) is None for one in refused),
    }


def groups(
    found: Sequence[Forecast], key: Callable[[LoggedStart], str]
) -> dict[str, dict[str, Any]]:
    """The figures of each group, sorted by name."""
    names = sorted({key(one.start) for one in found})
    return {name: summary([one for one in found if key(one.start) == name]) for name in names}


def model_family(start: LoggedStart) -> str:
    """A model's family, by its name."""
    name = start.model.rpartition("/")[2].casefold()
    known = (
        *("deepseek-r1-0528-qwen3", "deepseek-r1-distill-qwen", "codellama", "llama", "llava"),
        *("qwen3.5", "qwen3", "qwen2.5", "qwen2", "gpt-oss", "gemma", "mistral", "minimax"),
        *("kimi", "glm", "dots", "granite", "deepseek"),
    )
    return next((family for family in known if family in name), name)


def minor_version(start: LoggedStart) -> str:
    """``0.11`` of ``0.11.2``, padded to sort."""
    major, minor, _ = start.version.split(".")
    return f"{major}.{int(minor):02d}"


def starts_of_peers(found: Sequence[Forecast]) -> list[Forecast]:
    """The starts that planners are compared on: they log both weights and KV cache in GiB."""
    return [
        one
        for one in found
        if one.unit == "GiB" and one.measured > 0 and one.start.weights_gib and one.facts
    ]


def peers(found: Sequence[Forecast]) -> list[dict[str, Any]]:
    """Every planner's formula on the starts that log both weights and KV cache in GiB."""
    common = starts_of_peers(found)
    names = {"vllm-operator, expected": "expected", "vllm-operator, low": "low"}
    rows = [
        _peer_row(name, [(getattr(one, attribute), one.measured) for one in common])
        for name, attribute in names.items()
    ]
    for peer in PEERS:
        pairs = [
            (peer.forecast(one.start, one.facts, one.start.weights_gib), one.measured)
            for one in common
            if one.facts and one.start.weights_gib
        ]
        rows.append(_peer_row(peer.name, pairs))
    return rows


def package_rows(planner: Planner, found: Sequence[Forecast]) -> list[dict[str, Any]]:
    """A package on the starts that it answers for, with its own weights and with the measured
    ones, and this project's forecasts of the same starts.
    """
    common = [one for one in starts_of_peers(found) if one.start.id in planner.kv_gib]
    pairs = [(planner.kv_gib[one.start.id], one.measured) for one in common]
    corrected = [
        (kv + planner.weights_gib[one.start.id] - one.start.weights_gib, measured)
        for one, (kv, measured) in zip(common, pairs, strict=True)
        if one.start.id in planner.weights_gib and one.start.weights_gib
    ]
    rows = [_peer_row(planner.name, pairs)]
    if corrected:
        rows.append(_peer_row("the same, given the measured weights", corrected))
    for name in ("expected", "low"):
        ours = [(getattr(one, name), one.measured) for one in common]
        rows.append(_peer_row(f"vllm-operator, {name}", ours))
    return rows


def packages(found: Sequence[Forecast]) -> dict[str, Any]:
    """Other planners as their own packages; what could not be had is listed, never raised."""
    known = [(one.start, catalogue.find(one.start.model)) for one in starts_of_peers(found)]
    asked = [(start, facts) for start, facts in known if facts is not None]
    rows: list[dict[str, Any]] = []
    unanswered: dict[str, dict[str, int]] = {}
    problems: list[str] = []
    for package in PACKAGES:
        try:
            answered = planners(package, asked)
        except PackageUnavailable as problem:
            problems.append(str(problem))
            continue
        for planner in answered:
            rows += package_rows(planner, found)
            unanswered[planner.name] = planner.reasons()
    return {"rows": rows, "unanswered": unanswered, "problems": problems}


def _peer_row(name: str, pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    differences = [expected - measured for expected, measured in pairs]
    relative = [abs(expected - measured) / measured for expected, measured in pairs]
    over = [expected for expected, measured in pairs if expected > measured + ROUNDING_GIB]
    return {
        "planner": name,
        "starts": len(pairs),
        "meanAbsoluteGiB": statistics.fmean(map(abs, differences)) if pairs else None,
        "biasGiB": statistics.fmean(differences) if pairs else None,
        "errorMedian": statistics.median(relative) if pairs else None,
        "errorP90": quantile(relative, 0.9),
        "above": len(over),
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


def _row(one: Forecast, reason: str = "") -> dict[str, Any]:
    start = {name: value for name, value in asdict(one.start).items() if value not in (None, "")}
    compared = {"error": one.error, "short": one.short, "broken": one.broken} if one.scored else {}
    return {
        **start,
        "reason": reason,
        "problem": one.problem,
        "refused": one.refused,
        "unit": one.unit,
        "expected": one.expected,
        "low": one.low,
        "measured": one.measured,
        "forecastWeightsGiB": one.weights_gib,
        **compared,
    }


@click.command()
@click.option(
    "--rows",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=LOGS,
    help="Logged starts to score, another file of the same columns.",
)
@click.option("--in-sample", is_flag=True, help="Take the coefficients as they stand.")
@click.option("--seed", default=1, show_default=True, help="Seed of the division into folds.")
@click.option(
    "--packages",
    "ask_packages",
    is_flag=True,
    help="Ask other planners' own packages, too: installs them once, each apart.",
)
def main(file: Path, in_sample: bool, seed: int, ask_packages: bool) -> None:
    """Score the memory model on logged starts; exit status 1 where a target is missed."""
    classified = classify(read_rows(file))
    starts = [one.start for one in classified if one.kind is Class.SCORED and one.start]
    if in_sample:
        found = [forecast(start) for start in starts]
    else:
        found = cross_validated(starts, *fitting(), seed)
    total = summary(found)
    results = {
        "coefficients": "coefficients as they stand" if in_sample else "cross-validated by source",
        "summary": total,
        "targets": TARGETS,
        "byModel": groups(found, model_family),
        "byGPU": groups(found, lambda start: start.gpu_family),
        "byVersion": groups(found, minor_version),
        "byEngine": groups(found, lambda start: start.engine),
        "peers": peers(found),
        "packages": packages(found) if ask_packages else None,
        "starts": [_row(one) for one in found],
        "apart": [
            _row(forecast(one.start), one.reason)
            for one in classified
            if one.kind is Class.APART and one.start
        ],
        "leftOut": {one.id: one.reason for one in classified if one.kind is Class.LEFT_OUT},
    }
    show(Console(), classified, results)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    PICTURE.write_text(picture(found), encoding="utf-8")
    missed = [name for name, limit in TARGETS.items() if (total[name] or 0.0) > limit]
    sys.exit(int(bool(missed) or total["compared"] == 0))


if __name__ == "__main__":
    main()
