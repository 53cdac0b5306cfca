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
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from localcluster.tampering import kill, slow
from localcluster.tuning_bed import LIKE_A_GPU, START_SECONDS, Pace, TuningBed
from realengine.clients import Clients, measured
from realengine.environments import ensure

RESULT: Final = Path("build/benchmarks/tuning_real_engine.json")
SIZES: Final = (4, 8, 16, 32, 64, 128)
REPEATED: Final = 16
TOKENS: Final = 512
UNEVEN: Final = 0.3
PARTS: Final = ("sweep", "free", "objective", "same", "slower", "dies")
GAP: Final = "milliseconds"
AT_REST: Final = ("Settled", "CoolingDown", "Suspended")


class Bench:
    """All parts, with what the command line says."""

    def __init__(
        self, clients: int, seconds: float, interval: float, limit: float, pace: Pace
    ) -> None:
        self.environment, self.pace = ensure(), pace
        self.clients, self.seconds = clients, seconds
        self.interval, self.limit = interval, limit

    # The sweep

    def sweep(self) -> dict[str, Any]:
        """Every setting alone; one of them before, between and after the others."""
        half = len(SIZES) // 2
        rows = []
        with TuningBed(self.environment, self.interval, self.pace) as bed:
            for size in (REPEATED, *SIZES[:half], REPEATED, *SIZES[half:], REPEATED):
                disabled = {"mode": "Disabled"}
                bed.apply(bed.manifest(disabled, maxNumSeqs=size, maxNumBatchedTokens=TOKENS))
                bed.wait_ready()
                with Clients(self.clients, bed.ready_pods) as clients:
                    rows.append({"maxNumSeqs": size, **self.seen(clients, bed.ready_pods())})
                print(rows[-1], flush=True)
        again = [row["tokensPerSecond"] for row in rows if row["maxNumSeqs"] == REPEATED]
        return {"rows": rows, "noise": max(again) / min(again) - 1.0}

    def seen(self, clients: Clients, pods: Mapping[str, str]) -> dict[str, Any]:
        """Tokens a second, and the mean milliseconds between two of a request."""
        time.sleep(self.seconds / 4)
        before = [_gaps(url) for url in pods.values()]
        tokens = measured(clients, self.seconds)
        after = [_gaps(url) for url in pods.values()]
        number, seconds = (
            sum(one[place] for one in after) - sum(one[place] for one in before) for place in (0, 1)
        )
        return {"tokensPerSecond": tokens, GAP: 1000 * seconds / max(1.0, number)}

    # Tuned

    def free(self) -> dict[str, Any]:
        """Without an objective."""
        return self.tuned(None)

    def objective(self, milliseconds: int) -> dict[str, Any]:
        """With an inter-token objective."""
        return self.tuned({"interTokenLatencyMilliseconds": milliseconds, "percentile": 90})

    def tuned(self, slo: dict[str, Any] | None) -> dict[str, Any]:
        """From 4 until nothing better is found, or the time is over; then what came of it."""
        with self.serving(slo, begin_at=SIZES[0]) as (bed, clients):
            begun, states = time.monotonic(), [""]
            while time.monotonic() - begun < self.limit:
                tuning = bed.tuning()
                if tuning.get("state") != states[-1]:
                    states.append(tuning.get("state", ""))
                    print(f"{time.monotonic() - begun:6.0f} s {states[-1]}", flush=True)
                if states[-1] in AT_REST:
                    break
                time.sleep(1.0)
            took = time.monotonic() - begun
            tuning = bed.tuning()
            bed.wait_ready()
            row = self.seen(clients, bed.ready_pods())
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


def _gaps(url: str) -> tuple[float, float]:
    """Number and seconds of the gaps between tokens, as the engine counts them."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        text: str = answer.read().decode()
    found = []
    for part in ("count", "sum"):
        lines = [
            line
            for line in text.splitlines()
            if line.startswith(f"vllm:inter_token_latency_seconds_{part}")
        ]
        found.append(sum(float(line.rsplit(" ", 1)[1]) for line in lines))
    return found[0], found[1]


def told(results: Mapping[str, Any]) -> None:
    """The table."""
    best = None
    if sweep := results.get("sweep"):
        print("\nmax-num-seqs   tokens/s   ms between tokens")
        for row in sweep["rows"]:
            size, rate, gap = (row[name] for name in ("maxNumSeqs", "tokensPerSecond", GAP))
            print(f"{size:>12} {rate:>10.0f} {gap:>19.1f}")
        print(
            f"{REPEATED} measured three times: the largest is {sweep['noise']:.0%} above the least"
        )
    for name in ("free", "objective"):
        if name not in results:
            continue
        row = results[name]
        ratio = ""
        if sweep:
            limit = (row["slo"] or {}).get("interTokenLatencyMilliseconds")
            kept = [one for one in sweep["rows"] if limit is None or one[GAP] <= limit]
            best = max((one["tokensPerSecond"] for one in kept), default=None)
            ratio = f", {row['tokensPerSecond'] / best:.2f} of the best" if best else ""
        print(
            f"{name}: {row['tokensPerSecond']:.0f} tokens/s, {row[GAP]:.1f} ms{ratio}; "
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
@click.option("--milliseconds", default=40, show_default=True, help="The objective.")
def main(
    parts: tuple[str, ...],
    clients: int,
    seconds: float,
    interval: float,
    limit: float,
    paced: bool,
    milliseconds: int,
) -> None:
    """Runs the parts."""
    bench = Bench(clients, seconds, interval, limit, LIKE_A_GPU if paced else Pace())
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    for name in parts:
        print(f"# {name}: every duration of tuning is a multiple of {interval:g} s", flush=True)
        arguments = (milliseconds,) if name == "objective" else ()
        results[name] = getattr(bench, name)(*arguments)
        results[name] |= {"interval": interval, "paced": paced}
        RESULT.write_text(json.dumps(results, indent=1) + "\n")
    told(results)


if __name__ == "__main__":
    main()
