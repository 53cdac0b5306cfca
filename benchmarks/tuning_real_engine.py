"""Tuning on the real engine: from --max-num-seqs 4, against a sweep of the same run.

    PYTHONPATH=operator:tools python benchmarks/tuning_real_engine.py [--part sweep …]

vLLM's CPU build (`make engine`) serves a tiny model, a real Prometheus scrapes it, the operator
tunes it (`tools/localcluster/tuning_bed.py`), and clients ask again as soon as they were answered.
Parts, each alone with `--part`:

    sweep      tokens a second with 4, 8, 16, 32, 64 and 128; 16 several times: the machine's noise
    free       tuned from 4, without an objective
    objective  tuned from 4, with an inter-token objective
    same       an identical candidate with 30 % of the clients: not to be taken back
    slower     an identical candidate whose steps take twice as long: to be taken back
    dies       an identical candidate that is killed: to be taken back

Prints a table and writes build/benchmarks/tuning_real_engine.json, where parts of earlier runs
stay. A ratio between parts of different runs says little: machines change.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import click

from localcluster.tampering import kill, slow
from localcluster.tuning_bed import LIKE_A_GPU, START_SECONDS, Pace, TuningBed
from realengine.clients import Clients, measured
from realengine.environments import ensure

RESULT: Final = Path("build/benchmarks/tuning_real_engine.json")
BEGIN: Final = 4
REPEATED: Final = 16
SWEEP: Final = (REPEATED, BEGIN, 8, REPEATED, 32, 64, 128, REPEATED)
"""One of them before, between and after the others."""
TOKENS: Final = 512
UNEVEN: Final = 0.3
PARTS: Final = ("sweep", "free", "objective", "same", "slower", "dies")
GAP: Final = "milliseconds"
AT_REST: Final = ("Settled", "Suspended")
UNDER_WAY: Final = ("Starting", "Warming", "Judging", "Promoting", "RollingBack")
FLAGS: Final = ("--max-num-seqs", "--max-num-active-seqs", "--max-num-batched-tokens")
PERCENTILE: Final = 90
EDGES: Final = (10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000)
"""Milliseconds at which the engine counts gaps between tokens (vLLM 0.32.0
``v1/metrics/buckets.py``): at an objective of one of them the share that keeps it is exact."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """The gaps between tokens that an engine has counted."""

    number: float
    seconds: float
    within: float
    """Of these, those that keep the objective."""

    @classmethod
    def read(cls, text: str, milliseconds: int) -> Gaps:
        """From the engine's metrics."""
        name = "vllm:inter_token_latency_seconds"
        found = {"count": 0.0, "sum": 0.0, "bucket": 0.0}
        for part, labels, value in re.findall(rf"^{name}_(\w+)\{{(.*)\}} (\S+)$", text, re.M):
            edge = re.search(r'le="([^"]*)"', labels)
            if edge is None or float(edge[1]) == milliseconds / 1000:
                found[part] = found.get(part, 0.0) + float(value)
        return cls(found["count"], found["sum"], found["bucket"])

    def since(self, before: Gaps) -> Gaps:
        """Those that were counted after."""
        return Gaps(
            self.number - before.number,
            self.seconds - before.seconds,
            self.within - before.within,
        )


class Bench:
    """All parts, with what the command line says."""

    def __init__(
        self,
        clients: int,
        seconds: float,
        interval: float,
        limit: float,
        pace: Pace,
        milliseconds: int,
    ) -> None:
        self.environment, self.pace = ensure(), pace
        self.clients, self.seconds = clients, seconds
        self.interval, self.limit = interval, limit
        self.milliseconds = milliseconds

    # The sweep

    def sweep(self) -> dict[str, Any]:
        """Every setting alone."""
        rows = []
        with TuningBed(self.environment, self.interval, self.pace) as bed:
            for size in SWEEP:
                disabled = {"mode": "Disabled"}
                bed.apply(bed.manifest(disabled, maxNumSeqs=size, maxNumBatchedTokens=TOKENS))
                bed.wait_ready()
                with Clients(self.clients, bed.ready_pods) as clients:
                    rows.append({"maxNumSeqs": size, **self.seen(clients, bed.ready_pods())})
                print(rows[-1], flush=True)
        again = [row["tokensPerSecond"] for row in rows if row["maxNumSeqs"] == REPEATED]
        return {"rows": rows, "noise": max(again) / min(again) - 1.0}

    def seen(self, clients: Clients, pods: Mapping[str, str]) -> dict[str, Any]:
        """Tokens a second, the mean milliseconds between two of a request, and the share of these
        gaps that keeps the objective."""
        time.sleep(self.seconds / 4)
        before = [self.gaps(url) for url in pods.values()]
        tokens = measured(clients, self.seconds)
        gaps = [self.gaps(url).since(one) for url, one in zip(pods.values(), before, strict=True)]
        number = max(1.0, sum(one.number for one in gaps))
        return {
            "tokensPerSecond": tokens,
            GAP: 1000 * sum(one.seconds for one in gaps) / number,
            "within": sum(one.within for one in gaps) / number,
        }

    def gaps(self, url: str) -> Gaps:
        """What a pod's engine has counted."""
        with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
            return Gaps.read(answer.read().decode(), self.milliseconds)

    # Tuned

    def free(self) -> dict[str, Any]:
        """Without an objective."""
        return self.tuned(None)

    def objective(self) -> dict[str, Any]:
        """With an inter-token objective."""
        return self.tuned(
            {"interTokenLatencyMilliseconds": self.milliseconds, "percentile": PERCENTILE}
        )

    def tuned(self, slo: dict[str, Any] | None) -> dict[str, Any]:
        """From 4 until nothing better is found, or the time is over; then what came of it."""
        with self.serving(slo, begin_at=BEGIN) as (bed, clients):
            begun, states = time.monotonic(), [""]
            # What is under way at the end is waited for: two pods are more than one.
            while time.monotonic() - begun < self.limit or states[-1] in UNDER_WAY:
                tuning = bed.tuning()
                if tuning.get("state") != states[-1]:
                    states.append(tuning.get("state", ""))
                    print(f"{time.monotonic() - begun:6.0f} s {states[-1]}", flush=True)
                if states[-1] in AT_REST:
                    break
                time.sleep(1.0)
            took = time.monotonic() - begun
            tuning = bed.tuning()
            bed.apply(bed.manifest({"mode": "Disabled"}, slo, maxNumBatchedTokens=TOKENS))
            bed.wait_ready()
            row = self.seen(clients, bed.ready_pods()) | {"flags": flags(bed.command())}
        trials = [
            {name: entry.get(name) for name in ("verdict", "source", "to", "reason", "measured")}
            for entry in tuning.get("history", [])
        ]
        return {**row, "slo": slo, "states": states[1:], "seconds": took, "trials": trials}

    # Trials of the same

    def same(self) -> dict[str, Any]:
        """Judged for as long as a trial may be, with 30 % of the clients."""
        with self.trying(UNEVEN) as bed:
            return self.verdict(bed)

    def slower(self) -> dict[str, Any]:
        """With as many clients as the other, from the moment on in which it serves."""
        with self.trying() as bed:
            slow(youngest(bed))
            return self.verdict(bed)

    def dies(self) -> dict[str, Any]:
        """Killed as soon as it serves."""
        with self.trying() as bed:
            kill(youngest(bed))
            return self.verdict(bed)

    def verdict(self, bed: TuningBed) -> dict[str, Any]:
        """How the trial ended."""
        begun = time.monotonic()
        bed.wait(lambda tuning: bool(tuning["history"]), "a verdict", 600 * bed.interval + 600)
        (entry, *_) = bed.tuning()["history"]
        found = {name: entry.get(name) for name in ("verdict", "reason", "measured")}
        return {**found, "seconds": time.monotonic() - begun}

    @contextmanager
    def trying(self, share: float | None = None) -> Iterator[TuningBed]:
        """A trial of the same setting that serves."""
        with self.serving(None, begin_at=REPEATED, try_the_same=1) as (bed, clients):
            clients.share = share
            bed.wait(
                lambda tuning: tuning["state"] in ("Warming", "Judging"),
                "a trial that serves",
                600 * bed.interval + START_SECONDS,
            )
            yield bed

    @contextmanager
    def serving(
        self, slo: dict[str, Any] | None, **poses: object
    ) -> Iterator[tuple[TuningBed, Clients]]:
        """A server that is tuned, under load."""
        with TuningBed(self.environment, self.interval, self.pace, **poses) as bed:
            autotune = {"mode": "Auto", "maxTrialsPerDay": 10}
            bed.apply(bed.manifest(autotune, slo, maxNumBatchedTokens=TOKENS))
            bed.wait_ready()
            with Clients(self.clients, bed.ready_pods) as clients:
                yield bed, clients


def youngest(bed: TuningBed) -> str:
    """The trial's pod."""
    return list(bed.ready_pods())[-1]


def flags(command: Sequence[str]) -> dict[str, int]:
    """Those that are tuned, as an engine's command has them."""
    pairs = pairwise(command)
    return {name.strip("-"): int(value) for name, value in pairs if name in FLAGS}


def kept(row: Mapping[str, Any]) -> bool:
    """Whether so many of the gaps keep the objective."""
    return bool(100 * row["within"] >= PERCENTILE)


def told(results: Mapping[str, Any]) -> None:
    """The table."""
    best = None
    if sweep := results.get("sweep"):
        print("\nmax-num-seqs   tokens/s   ms between tokens   within the objective")
        for row in sweep["rows"]:
            size, rate, gap = (row[name] for name in ("maxNumSeqs", "tokensPerSecond", GAP))
            print(f"{size:>12} {rate:>10.0f} {gap:>19.1f} {row['within']:>22.1%}")
        print(
            f"{REPEATED} measured three times: the largest is {sweep['noise']:.0%} above the least"
        )
    for name in ("free", "objective"):
        if name not in results:
            continue
        row = results[name]
        ratio = ""
        if sweep:
            among = [one for one in sweep["rows"] if row["slo"] is None or kept(one)]
            best = max((one["tokensPerSecond"] for one in among), default=None)
            ratio = f", {row['tokensPerSecond'] / best:.2f} of the best" if best else ""
        print(
            f"{name}: {row['tokensPerSecond']:.0f} tokens/s, {row[GAP]:.1f} ms, "
            f"{row['within']:.1%} within the objective{ratio}, with {row['flags']}; "
            f"{[(one['verdict'], one['to']) for one in row['trials']]}"
        )
    for name in ("same", "slower", "dies"):
        if name in results:
            print(f"{name}: {results[name]['verdict']}: {results[name]['reason']}")


@click.command(help=__doc__)
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS)
@click.option("--clients", default=64, show_default=True)
@click.option("--seconds", default=30.0, show_default=True, help="Of one measurement.")
@click.option("--interval", default=1.0, show_default=True, help="Seconds; 15 in a cluster.")
@click.option("--limit", default=1500.0, show_default=True, help="Seconds of one tuning.")
@click.option("--paced/--as-it-is", default=False, help="Steps as long as on a slow GPU.")
@click.option(
    "--milliseconds",
    type=click.Choice([str(edge) for edge in EDGES]),
    default="50",
    show_default=True,
    help="The objective, at which the engine counts.",
)
def main(
    parts: tuple[str, ...],
    clients: int,
    seconds: float,
    interval: float,
    limit: float,
    paced: bool,
    milliseconds: str,
) -> None:
    """Runs the parts."""
    pace = LIKE_A_GPU if paced else Pace()
    bench = Bench(clients, seconds, interval, limit, pace, int(milliseconds))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    for name in parts:
        print(f"# {name}: every duration of tuning is a multiple of {interval:g} s", flush=True)
        found = getattr(bench, name)() | {"interval": interval, "paced": paced}
        # Read again: another run may have written parts of its own meanwhile.
        RESULT.write_text(json.dumps({**stored(), name: found}, indent=1) + "\n")
    told(stored())


def stored() -> dict[str, Any]:
    """What was written until now."""
    found: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    return found


if __name__ == "__main__":
    main()
