"""The tuner against simulated servers, beside the best setting there is and what others would do.

    PYTHONPATH=operator:tools python benchmarks/tuning_simulated.py [--workloads F | --drawn SEED]

Reads a JSON array of workloads, or draws some: to a seed that was never played nothing can have
been fitted. ``--only NAME`` plays one of them. Prints a table and writes
build/benchmarks/tuning_simulated.json with one object a workload; docs/benchmarks.md says what each
figure means.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from support_draw import drawn
from support_tuner import operator

from enginesimulator import sweep
from enginesimulator.planned import Server
from enginesimulator.service import Minute
from enginesimulator.session import Look, Session, Told, leave_alone
from enginesimulator.sweep import Outcome, Replays
from vllm_operator.sizing.performance.coefficients import fingerprint
from vllm_operator.tuning.knobs import Knobs

DATA: Final = Path(__file__).parent / "data"
FILES: Final = (DATA / "tuning_workloads.json", DATA / "tuning_workloads_unseen.json")
RESULT: Final = Path("build/benchmarks/tuning_simulated.json")
CACHE: Final = Path("build/benchmarks/tuning_oracle")

GOOD_ENOUGH: Final = 0.97
"""Of the best, from which on a start that keeps the objective needs no trial."""
REGRESSION: Final = 0.97
GRID: Final = ((128, 256), (1024, 2048, 4096))
"""vLLM's ``benchmarks/auto_tune``: its grid of max-num-seqs and max-num-batched-tokens."""

Maker = Callable[[Server, Mapping[str, Any]], Look]
"""A tuner for a server."""


def nobody(server: Server, workload: Mapping[str, Any]) -> Look:
    """The tuner that does nothing."""
    return leave_alone


TUNERS: Final[Mapping[str, Maker]] = {"operator": operator, "none": nobody}


def judged(
    workload: Mapping[str, Any], server: Server, replays: Replays, told: Told, session: Session
) -> dict[str, Any]:
    """The figures of one workload, but for the baselines."""
    start = _full(replays, server.start)
    _, best, feasible = oracle(workload, replays)
    final = session.stable
    reached = _full(replays, final)
    ratio = reached.tokens / best if feasible and best else None
    kept = replays.kept(start)
    needed = 0 if feasible and kept and start.tokens >= GOOD_ENOUGH * best else 1
    settled = told.settled
    return {
        "name": workload["name"],
        "feasible": feasible,
        "best": round(best, 2),
        "reached": round(reached.tokens, 2),
        "ratio": None if ratio is None else round(ratio, 4),
        "starts": told.starts,
        "replicaStarts": told.replica_starts,
        "neededStarts": needed,
        "needlessStarts": 0 if needed else told.starts,
        "violationMinutesCaused": caused(replays, start, session),
        "promotedViolation": any(
            replays.kept(_full(replays, before)) and not replays.kept(_full(replays, after))
            for before, after in told.promotions
        ),
        "promotedRegression": any(
            regressed(replays, _full(replays, before), _full(replays, after))
            for before, after in told.promotions
        ),
        "minutesToSettled": None if settled is None else round(settled / 60, 1),
        "final": {
            "maxNumSeqs": final.max_num_seqs,
            "maxNumActiveSeqs": final.max_num_active_seqs,
            "maxNumBatchedTokens": final.max_num_batched_tokens,
            "gpuMemoryUtilization": final.gpu_memory_utilization,
            "sloKept": replays.kept(reached),
            "state": told.state,
        },
        "verdicts": [asdict(one) for one in told.verdicts],
    }


def regressed(replays: Replays, before: Outcome, after: Outcome) -> bool:
    """Whether tokens were lost, and not for the sake of an objective that was broken before."""
    mended = replays.kept(after) and not replays.kept(before)
    return after.tokens < REGRESSION * before.tokens and not mended


def caused(replays: Replays, start: Outcome, session: Session) -> int:
    """Minutes in which the objective broke and, with the start's setting alone, would not have."""
    objective = replays.objective
    if objective is None:
        return 0
    quiet = Minute()
    return sum(
        minute.broken(objective) and not start.minutes.get(number, quiet).broken(objective)
        for number, minute in session.service.minutes.items()
    )


def baselines(server: Server, replays: Replays) -> dict[str, Any]:
    """What others would have set, alone on the same arrivals."""
    start = server.start
    plain = Server({name: said for name, said in server.told.items() if name != "start"}).start
    grid = [
        Knobs(size, tokens, start.gpu_memory_utilization) for size in GRID[0] for tokens in GRID[1]
    ]
    line = straight_line(replays)
    rows = {
        "vLLM's defaults": (plain, 0),
        "256 / 0.9": (Knobs(256, start.max_num_batched_tokens, 0.9), 0),
        "grid offline": (replays.best_of(grid), len(grid)),
        "straight line": (line, int(line != start)),
    }
    found = {}
    for name, (knobs, starts) in rows.items():
        outcome = None if knobs is None else replays.full(knobs)
        found[name] = {
            "setting": None if knobs is None else asdict(knobs),
            "starts": starts,
            "tokens": None if outcome is None else round(outcome.tokens, 2),
            "sloKept": outcome is not None and replays.kept(outcome),
        }
    return found


def straight_line(replays: Replays) -> Knobs:
    """The largest max-num-seqs whose latency, by a line of it on the tokens of a step, is within
    the objective: fitted to the minutes of the start's replay."""
    start, objective = replays.server.start, replays.objective
    points = replays.points()
    if objective is None or objective.inter_token_latency is None or len(points) < 2:
        return start
    count = len(points)
    x, y = sum(one[0] for one in points) / count, sum(one[1] for one in points) / count
    spread = sum((one[0] - x) ** 2 for one in points)
    slope = sum((one[0] - x) * (one[1] - y) for one in points) / spread if spread else 0.0
    if slope <= 0:
        return start
    tokens = x + (objective.inter_token_latency - y) / slope
    batch = sum(one[2] for one in points) / sum(one[0] for one in points) * tokens
    size = max((one for one in sweep.SIZES if one <= batch), default=sweep.SIZES[0])
    tokens_a_step = max(start.max_num_batched_tokens, size)
    found = Knobs(size, tokens_a_step, start.gpu_memory_utilization)
    return found if replays.server.planned(found) else start


def oracle(workload: Mapping[str, Any], replays: Replays) -> tuple[Knobs, float, bool]:
    """The best setting, its tokens a second, and whether it keeps the objective; kept on disk."""
    path = CACHE / f"{_key(workload)}.json"
    if path.exists():
        held = json.loads(path.read_text())
        return Knobs(*held["setting"]), held["tokens"], held["kept"]
    knobs, outcome, kept = replays.best()
    path.parent.mkdir(parents=True, exist_ok=True)
    setting = [knobs.max_num_seqs, knobs.max_num_batched_tokens, knobs.gpu_memory_utilization]
    held = {"setting": setting, "tokens": outcome.tokens, "kept": kept}
    path.write_text(json.dumps(held))
    return knobs, outcome.tokens, kept


def _key(workload: Mapping[str, Any]) -> str:
    """What the oracle's answer depends on."""
    parts = [json.dumps(workload, sort_keys=True), fingerprint()]
    folder = Path(sweep.__file__).parent
    parts += [one.read_text() for one in sorted(folder.glob("*.py"))]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:24]


def _full(replays: Replays, knobs: Knobs) -> Outcome:
    outcome = replays.full(knobs)
    assert outcome is not None, knobs
    return outcome


def one(job: tuple[Mapping[str, Any], str]) -> dict[str, Any]:
    """Everything of one workload."""
    workload, tuner = job
    begun = time.process_time()
    server = Server(workload["server"])
    replays = Replays(server, workload)
    session = Session(server, workload, TUNERS[tuner](server, workload))
    told = session.run()
    row = judged(workload, server, replays, told, session)
    row["start"] = {
        "ratio": round(_full(replays, server.start).tokens / row["best"], 4) if row["best"] else 0,
        "sloKept": replays.kept(_full(replays, server.start)),
    }
    row["baselines"] = baselines(server, replays)
    seconds = time.process_time() - begun
    simulated = replays.simulated + session.service.end * session.replicas
    row["speed"] = {"cpuSeconds": round(seconds, 2), "simulatedSeconds": round(simulated)}
    return row


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures over all workloads."""
    feasible = [row for row in rows if row["feasible"]]
    ratios = sorted(row["ratio"] for row in feasible)
    starts = sorted(row["start"]["ratio"] for row in feasible)
    found: dict[str, Any] = {
        "workloads": len(rows),
        "feasible": len(feasible),
        "ratioMedian": median(ratios) if ratios else None,
        "ratioWorst": ratios[0] if ratios else None,
        "startRatioMedian": median(starts) if starts else None,
        "startRatioWorst": starts[0] if starts else None,
        "startKept": sum(row["start"]["sloKept"] for row in feasible),
        "sloKept": sum(row["final"]["sloKept"] for row in feasible),
        "nothingToDo": sum(row["neededStarts"] == 0 for row in feasible),
        "needlessStarts": sum(row["needlessStarts"] for row in rows),
        "promotedViolations": sum(row["promotedViolation"] for row in rows),
        "promotedRegressions": sum(row["promotedRegression"] for row in rows),
        "cpuSeconds": round(sum(row["speed"]["cpuSeconds"] for row in rows)),
        "simulatedSecondsPerCpuSecond": round(
            sum(row["speed"]["simulatedSeconds"] for row in rows)
            / max(1e-9, sum(row["speed"]["cpuSeconds"] for row in rows))
        ),
    }
    for name in rows[0]["baselines"] if rows else ():
        held = [(row, row["baselines"][name]) for row in feasible]
        shares = [base["tokens"] / row["best"] for row, base in held if base["sloKept"]]
        found[name] = {
            "ratioMedian": round(median(shares), 4) if shares else None,
            "sloKept": sum(base["sloKept"] for _, base in held),
            "starts": sum(base["starts"] for _, base in held),
        }
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line a workload."""
    shown = Table()
    for name in ("workload", "feasible", "start", "kept", "ratio", "kept ", "starts", "needed"):
        shown.add_column(name)
    for name in ("violation min", "settled", "final", "CPU s"):
        shown.add_column(name)
    for row in rows:
        final = row["final"]
        shown.add_row(
            row["name"],
            "yes" if row["feasible"] else "no",
            f"{row['start']['ratio']:.3f}",
            "yes" if row["start"]["sloKept"] else "no",
            "-" if row["ratio"] is None else f"{row['ratio']:.3f}",
            "yes" if final["sloKept"] else "no",
            f"{row['starts']} ({row['replicaStarts']})",
            str(row["neededStarts"]),
            str(row["violationMinutesCaused"]),
            "-" if row["minutesToSettled"] is None else f"{row['minutesToSettled']:.0f}",
            f"{final['maxNumSeqs']}/{final['maxNumBatchedTokens']}/{final['gpuMemoryUtilization']}",
            f"{row['speed']['cpuSeconds']:.0f}",
        )
    return shown


def workloads(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Of all files; raises ``ValueError`` where two have one name."""
    found = [one for file in files for one in json.loads(file.read_text())]
    names = [one["name"] for one in found]
    if len(set(names)) < len(names):
        raise ValueError("two workloads have one name")
    return found


def chosen(played: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Those of some names, all where there are none; raises ``click.BadParameter`` for others."""
    known = {one["name"]: one for one in played}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3) or sorted(known)
            raise click.BadParameter(f"no workload is {name}; near it: {', '.join(near)}")
    return [known[name] for name in names or known]


@click.command(help=__doc__)
@click.option(
    "--workloads",
    "files",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="A JSON array of workloads; both committed files by default.",
)
@click.option("--drawn", "seed", type=int, help="A seed, by which workloads are drawn instead.")
@click.option("--count", default=24, show_default=True, help="How many are drawn.")
@click.option("--only", "names", multiple=True, help="A workload of them, by name; repeatable.")
@click.option("--tuner", type=click.Choice(sorted(TUNERS)), default="operator", show_default=True)
@click.option("--processes", default=2, show_default=True)
def main(
    files: tuple[Path, ...],
    seed: int | None,
    count: int,
    names: tuple[str, ...],
    tuner: str,
    processes: int,
) -> None:
    """Plays all workloads, or those that are named."""
    begun = time.monotonic()
    rows: list[dict[str, Any]] = []
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    played = workloads(files or FILES) if seed is None else list(drawn(seed, count))
    jobs = [(one, tuner) for one in chosen(played, names)]
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=6) as pool:
        for row in pool.imap(one, jobs):
            rows.append(row)
            print(f"{len(rows)}/{len(jobs)} {row['name']}", file=sys.stderr, flush=True)
            RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    found = {**summary(rows), "minutes": round((time.monotonic() - begun) / 60, 1)}
    Console(width=160).print(table(rows))
    for name, value in found.items():
        print(f"{name}: {value}")
    RESULT.with_name("tuning_simulated_summary.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
