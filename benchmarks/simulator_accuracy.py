"""The engine simulator against the real engine: the same arrivals, three limits of the batch.

    PYTHONPATH=operator:tools python benchmarks/simulator_accuracy.py [--fitted 16]

Serves a tiny model with vLLM's CPU build (`make engine`), replays a list of requests over HTTP,
each setting several times, and reads the engine's own metrics. What a step, a sequence and a token
take is fitted to the log of steps of one setting; the simulator is judged at the others. The KV
cache is small enough for preemptions. With several processors the engine has one for itself, and
the API server and the clients have the rest; `--together` leaves all to all.

Prints a table, writes build/benchmarks/simulator_accuracy.json, and beside it what was measured:
`--again` judges that, and measures nothing.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import click
from support_steps import FLAG, TIMED, Costs, Step, fitted, logged, timed

from enginesimulator import state as at
from enginesimulator.engine import Batch, Engine, Request, Setting
from enginesimulator.metrics import Buckets
from enginesimulator.steps import Hardware, Truth
from localcluster.tuning_bed import IN_ONE_PROCESS
from realengine.environments import ensure
from realengine.server import Server
from vllm_operator.sizing.performance.step import StageTimes, Times

RESULT: Final = Path("build/benchmarks/simulator_accuracy.json")
MEASURED: Final = Path("build/benchmarks/simulator_accuracy_measured.json")
BLOCK: Final = 32
BLOCKS: Final = 160
TOKENS: Final = 512
LENGTH: Final = 1024
START_SECONDS: Final = 600.0
ANSWER_SECONDS: Final = 600.0
"""That an answer may take: most of it in the queue."""
TARGETS: Final = {"tokens": 0.10, "batch": 0.10, "gap": 0.15, "preemptions": 0.30}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run did."""

    seconds: float
    """From the first request to the last answer."""
    tokens: float
    """Generated a second."""
    batch: float
    """Generated tokens of a step, but first ones."""
    gap: float
    """Mean seconds between two tokens."""
    preemptions: float


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the real engine."""

    size: int
    did: Measured
    steps: Sequence[Step]


def arrivals(number: int, rate: float, rise: float) -> list[Request]:
    """Requests of different lengths at random times, ever more of them for ``rise`` seconds and
    then ``rate`` a second: so there are steps of few sequences, and of as many as there may be."""
    draw, expected, found = random.Random(7), 0.0, []
    for _ in range(number):
        expected += draw.expovariate(1.0)
        now = math.sqrt(2 * expected * rise / rate)
        if now > rise:
            now = rise / 2 + expected / rate
        found.append(Request(now, draw.randint(16, 256), draw.randint(32, 160)))
    return found


def read(text: str) -> dict[str, float]:
    """Sums over the labels of each metric."""
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(vllm:\w+)\{[^}]*\} (\S+)$", text, re.M):
        if not name.endswith("_bucket"):
            found[name] = found.get(name, 0.0) + float(value)
    return found


def replayed(server: Server, requests: Sequence[Request], turn: int) -> Measured:
    """The requests, sent at their times; of other tokens in each turn, so that none is found in the
    cache."""
    draw = random.Random(turn)
    prompts = [[draw.randrange(3, 2000) for _ in range(one.prompt)] for one in requests]
    before = read(server.get("/metrics"))
    begun = time.monotonic()

    def ask(request: Request, prompt: Sequence[int]) -> None:
        time.sleep(max(0.0, begun + request.sent - time.monotonic()))
        body = {"model": "tiny", "prompt": prompt, "max_tokens": request.output}
        body |= {"ignore_eos": True, "temperature": 0}
        server.post("/v1/completions", body, ANSWER_SECONDS)

    with ThreadPoolExecutor(len(prompts)) as threads:
        for _ in threads.map(ask, requests, prompts):
            pass
    took = time.monotonic() - begun
    after = read(server.get("/metrics"))
    return measured({name: after[name] - before.get(name, 0.0) for name in after}, took)


def measured(total: Mapping[str, float], took: float) -> Measured:
    """What the engine's metrics say of a run."""
    gaps = total["vllm:inter_token_latency_seconds_count"]
    return Measured(
        took,
        total["vllm:generation_tokens_total"] / took,
        gaps / total["vllm:iteration_tokens_total_count"],
        total["vllm:inter_token_latency_seconds_sum"] / gaps,
        total["vllm:num_preemptions_total"],
    )


def real(size: int, requests: Sequence[Request], turn: int, *, apart: bool) -> Run:
    """A run of a new engine."""
    environment = ensure()
    command = ["vllm", "serve", str(environment.models() / "llama"), "--served-model-name", "tiny"]
    command += ["--max-model-len", str(LENGTH), "--max-num-batched-tokens", str(TOKENS)]
    command += ["--max-num-seqs", str(size), "--block-size", str(BLOCK), "--enforce-eager"]
    command += ["--num-gpu-blocks-override", str(BLOCKS), "--dtype", "bfloat16", FLAG]
    # Of the machine's memory, which has to be free at the start: the default is nearly all of it.
    command += ["--gpu-memory-utilization", "0.2", "--disable-uvicorn-access-log"]
    variables = dict(TIMED)
    everywhere = os.sched_getaffinity(0)
    if apart:
        *others, own = sorted(everywhere)
        command += ["--worker-cls", "pacedworker.Worker"]
        command += ["--distributed-executor-backend", IN_ONE_PROCESS]
        variables |= {"PACED_PROCESSOR": str(own)}
        variables |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
        os.sched_setaffinity(0, others)
    server = Server(environment, command, variables)
    try:
        with closing(server):
            server.start(START_SECONDS)
            replayed(server, requests[:20], -1)
            said = len(server.log)
            did = replayed(server, requests, turn)
            return Run(size, did, logged(server.log[said:]))
    finally:
        os.sched_setaffinity(0, everywhere)


def simulated(size: int, requests: Sequence[Request], costs: Costs) -> Measured:
    """The same run in the simulator."""
    nothing = ((0.0, 0.0, 0.0, None, 0.0),)
    stage = StageTimes((), (), nothing, None, costs.token, 0.0, costs.step, 0.0)
    times = Times(((stage, 1),), host_seconds=costs.sequence, asynchronous=False, ranks=1)
    engine = Engine(
        Setting(size, TOKENS, BLOCKS - 1, BLOCK),
        Hardware(times, times, largest_graph=0),
        Truth(),
        Buckets.of(LENGTH),
    )
    engine.send(Batch.of(requests))
    end = requests[-1].sent
    while engine.count(at.FINISHED) < len(requests):
        end += costs.of(1, 1)
        engine.advance(end)
    gaps, seconds = engine.histogram(at.GAP)
    return Measured(
        engine.now,
        engine.count(at.GENERATED) / engine.now,
        gaps / engine.histogram(at.STEP)[0],
        seconds / gaps,
        float(engine.count(at.PREEMPTIONS)),
    )


def judged(
    runs: Sequence[Run], requests: Sequence[Request], costs: Costs, fitted_at: int
) -> list[dict[str, Any]]:
    """A row for each figure of each setting: the engine's mean, least and most of its runs, and
    the simulator's."""
    rows = []
    for size in sorted({run.size for run in runs}):
        ours = asdict(simulated(size, requests, costs))
        did = [asdict(run.did) for run in runs if run.size == size]
        for name, target in TARGETS.items():
            values = [one[name] for one in did]
            engine = fmean(values)
            rows.append(
                {
                    "maxNumSeqs": size,
                    "figure": name,
                    "engine": engine,
                    "least": min(values),
                    "most": max(values),
                    "simulator": ours[name],
                    "error": ours[name] / engine - 1 if engine else None,
                    "target": None if size == fitted_at else target,
                }
            )
    return rows


def told(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table."""
    print(f"{'engine':>27}{'its runs':>20}{'simulator':>11}{'error':>9}  wanted within")
    for row in rows:
        error, target = row["error"], row["target"]
        shown = "-" if error is None else f"{100 * error:+.1f} %"
        spread = f"{row['least']:.4f}..{row['most']:.4f}"
        wanted = "fitted" if target is None else f"{100 * target:.0f} %"
        print(
            f"{row['maxNumSeqs']:>4} {row['figure']:<12}{row['engine']:>10.4f}{spread:>20}"
            f"{row['simulator']:>11.4f}{shown:>9}  {wanted}"
        )


@click.command(help=__doc__)
@click.option("--requests", default=800, show_default=True)
@click.option("--rate", default=60.0, show_default=True, help="Requests a second, in the end.")
@click.option("--rise", default=20.0, show_default=True, help="Seconds until then.")
@click.option("--sizes", default="4,16,64", show_default=True)
@click.option("--fitted", "fitted_at", default=16, show_default=True, help="One of these.")
@click.option("--times", default=3, show_default=True, help="Runs of each setting.")
@click.option("--apart/--together", default=True, help="Whether the engine has a processor alone.")
@click.option("--again", is_flag=True, help="Judge what was measured last.")
def main(
    requests: int,
    rate: float,
    rise: float,
    sizes: str,
    fitted_at: int,
    times: int,
    apart: bool,
    again: bool,
) -> None:
    """Runs all and compares."""
    load = arrivals(requests, rate, rise)
    if again:
        runs = [
            Run(one["size"], Measured(**one["did"]), [Step(*step) for step in one["steps"]])
            for one in json.loads(MEASURED.read_text())
        ]
    else:
        apart = apart and len(os.sched_getaffinity(0)) > 1
        runs = []
        for turn in range(times):
            for size in map(int, sizes.split(",")):
                runs.append(real(size, load, turn, apart=apart))
                print(size, runs[-1].did, flush=True)
        kept = [
            {
                "size": run.size,
                "did": asdict(run.did),
                "steps": [list(asdict(step).values()) for step in run.steps],
            }
            for run in runs
        ]
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        MEASURED.write_text(json.dumps(kept) + "\n")
    steps = [pair for run in runs if run.size == fitted_at for pair in timed(run.steps)]
    costs = fitted(steps)
    print(
        f"{1e3 * costs.step:.2f} ms a step, {1e3 * costs.sequence:.3f} ms a sequence and "
        f"{1e3 * costs.token:.4f} ms a token, fitted to {len(steps)} steps at {fitted_at}"
    )
    rows = judged(runs, load, costs, fitted_at)
    told(rows)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
