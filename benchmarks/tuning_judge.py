"""How often the verdict of a trial is right, on pods that step as no formula of tuning says.

    PYTHONPATH=operator:tools:tests python benchmarks/tuning_judge.py [--trials 400] [--only slower]

The pods of ``tests/support/stepping.py``: steps padded to graph sizes, lognormal jitter, Poisson
arrivals with lengths that vary, spells of a disturbance that all pods share, and noise of each
pod's own that stays for minutes. Each trial first
learns the curve from an hour of the stable pod, then looks after 24 intervals and from then on ever
less often, up to two hours, until there is a verdict. Loads are the shares of the candidate and
of the stable pod. Prints a table and writes build/benchmarks/tuning_judge.json.

Seeds from 0 to 99 shaped the judge; those from 1000 on, which are reported, did not.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from support.stepping import STEEP, Disturbances, Engine, Pod, Traffic
from vllm_operator.engine.versions import NEWEST_KNOWN
from vllm_operator.hardware.performance import find
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.sizing.performance.server import Server, server
from vllm_operator.sizing.performance.work import work_of
from vllm_operator.tuning.curve import fit
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.judge import Judgement, Verdict, judge
from vllm_operator.tuning.knobs import Knobs
from vllm_operator.tuning.trial import Side, Trial

RESULT: Final = Path("build/benchmarks/tuning_judge.json")
REPORTED: Final = 1000
LEARNED: Final = 240
"""Intervals before a trial."""
START: Final = 4
"""Intervals between them and the candidate being ready."""
CAP: Final = 48
"""Of both, where they are saturated."""


@dataclass(frozen=True)
class Case:
    """Trials of one kind."""

    name: str
    slower: float
    """Factor on the candidate's steps."""
    candidate: int
    """Percent of the requests that it gets."""
    saturated: bool = False
    steep: bool = False

    @property
    def load(self) -> str:
        """Percent of the candidate and of the stable pod."""
        return f"{self.candidate}:{100 - self.candidate}"


def cases() -> list[Case]:
    """What is promised, and what stands beside it."""
    found = [Case("identical", 1.0, share) for share in (50, 60, 40, 70, 30, 85, 15)]
    found += [Case("identical", 1.0, share, steep=True) for share in (50, 60, 70, 85)]
    found += [Case("identical", 1.0, share, saturated=True) for share in (50,)]
    found += [Case("10 % slower", 1.1, share) for share in (50, 60, 40, 70, 30)]
    found += [Case("10 % slower", 1.1, share, saturated=True) for share in (50,)]
    found += [Case("10 % better", 1 / 1.1, share, saturated=True) for share in (50,)]
    return found


@lru_cache(maxsize=1)
def shipped() -> Server:
    """What the tuner believes: the coefficients of some GPU, not of these pods."""
    facts, gpu = catalogue.find("Qwen/Qwen3-8B"), find("NVIDIA-H100-80GB-HBM3")
    if facts is None or gpu is None:
        raise click.ClickException("the catalogue lacks Qwen3-8B or the H100")
    return server(
        work_of(architecture_from_config(facts.config)),
        gpu,
        version=NEWEST_KNOWN,
        max_num_batched_tokens=8192,
        max_num_seqs=256,
    )


def looks(last: int) -> list[int]:
    """Intervals after the candidate is ready at which a verdict is asked for."""
    return [look for look in (24, 32, 40, 48, 64, 96, 144, 240) if look < last] + [last]


def play(case: Case, seed: int, unit: float = 1.0) -> tuple[Judgement, int]:
    """The verdict of one trial, and after how many intervals it came.

    ``unit``: everything takes as many times as long, and so do the intervals.
    """
    durations = Durations(15.0 * unit)
    interval = durations.interval
    draw = random.Random(seed)
    engine = replace(STEEP if case.steep else Engine(), unit=unit)
    rate = 3.0 if case.steep else 10.0
    disturbance = Disturbances(draw, unit)

    def pod(name: str, percent: int, slower: float) -> Pod:
        traffic = Traffic(None if case.saturated else rate * percent / 100)
        cap = CAP if case.saturated else 256
        return Pod(name, draw, traffic, engine, cap=cap, slower=slower)

    alone = pod("stable", 50, 1.0)
    before = [
        alone.interval(number * interval, interval, disturbance) for number in range(1, LEARNED + 1)
    ]
    posterior = fit(before, shipped(), durations=durations)
    assert posterior is not None
    ready = (LEARNED + START) * interval
    stable, candidate = (
        pod("stable", 100 - case.candidate, 1.0),
        pod("candidate", case.candidate, case.slower),
    )
    knobs = Knobs(256, 8192, 0.9)
    seen: list[Any] = [[], []]
    told, number = Judgement(Verdict.GO_ON, ""), 0
    last = round(durations.trial / interval)
    for look in looks(last):
        while number < look:
            number += 1
            end = ready + number * interval
            seen[0].append(candidate.interval(end, interval, disturbance))
            seen[1].append(stable.interval(end, interval, disturbance))
        trial = Trial(
            candidate=Side(shipped(), knobs, seen[0]),
            stable=Side(shipped(), knobs, seen[1]),
            ready=ready,
            posterior=posterior,
        )
        told = judge(trial, ready + number * interval, durations)
        if told.verdict is not Verdict.GO_ON:
            break
    return told, number


@dataclass(frozen=True)
class Row:
    """Counts of one case."""

    case: Case
    trials: int
    verdicts: dict[str, int]
    slower: int
    """Called slower at equal load."""
    same: int
    """Surely not slower by more than is tolerated."""
    minutes: float
    """Until the verdict, median, at intervals of 15 seconds."""

    def share(self, verdict: Verdict) -> float:
        """Of the trials, how many ended so."""
        return self.verdicts.get(verdict, 0) / self.trials


def row(case: Case, told: list[tuple[Judgement, int]]) -> Row:
    """What became of a case's trials."""
    judgements = [one for one, _ in told]
    return Row(
        case=case,
        trials=len(told),
        verdicts=dict(Counter(one.verdict.value for one in judgements)),
        slower=sum(
            one.verdict is Verdict.BAD and "slower at equal load" in one.reason
            for one in judgements
        ),
        same=sum(one.same for one in judgements),
        minutes=statistics.median(number for _, number in told) / 4,
    )


def table(rows: list[Row]) -> Table:
    """All cases, a line each."""
    found = Table(title="Verdicts, share of trials")
    for name in ("pods", "load", "trials", "bad", "good", "inconclusive", "same", "minutes"):
        found.add_column(name, justify="left" if name in ("pods", "load") else "right")
    for one in rows:
        kind = "saturated" if one.case.saturated else "steep" if one.case.steep else "open"
        found.add_row(
            f"{one.case.name}, {kind}",
            one.case.load,
            str(one.trials),
            *(
                f"{one.share(verdict):.1%}"
                for verdict in (Verdict.BAD, Verdict.GOOD, Verdict.INCONCLUSIVE)
            ),
            f"{one.same / one.trials:.1%}",
            f"{one.minutes:.0f}",
        )
    return found


@click.command()
@click.option("--trials", default=400, show_default=True, help="Trials of each case.")
@click.option("--processes", default=2, show_default=True, help="Processes that play them.")
@click.option("--only", default="", help="Cases whose name has this in it.")
def main(trials: int, processes: int, only: str) -> None:
    """Play the cases, print the table, write the results."""
    rows = []
    with ProcessPoolExecutor(processes) as pool:
        for case in (one for one in cases() if only in one.name):
            told = pool.map(play, [case] * trials, range(REPORTED, REPORTED + trials), chunksize=8)
            rows.append(row(case, list(told)))
            sys.stderr.write(f"{case.name} {case.load} {rows[-1].verdicts}\n")
    Console(width=100).print(table(rows))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps([asdict(one) for one in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
