"""The engine simulator against the real engine: the same arrivals, three limits of the batch.

    PYTHONPATH=operator:tools python benchmarks/simulator_accuracy.py [--core 1]

Serves a tiny model with vLLM's CPU build (`make engine`), replays a list of requests over HTTP and
reads the engine's own metrics. What a step and a token of it take is fitted to the run with
--max-num-seqs 16; the simulator is then judged at 4 and 64. The KV cache is small enough for
preemptions. Prints a table and writes build/benchmarks/simulator_accuracy.json.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click

from enginesimulator import state as at
from enginesimulator.engine import Batch, Engine, Request, Setting
from enginesimulator.metrics import Buckets
from enginesimulator.steps import Hardware, Truth
from realengine.environments import ensure
from realengine.server import Server
from vllm_operator.sizing.performance.step import StageTimes, Times

RESULT: Final = Path("build/benchmarks/simulator_accuracy.json")
FITTED: Final = 16
BLOCK: Final = 32
BLOCKS: Final = 160
TOKENS: Final = 512
LENGTH: Final = 1024
START_SECONDS: Final = 600.0
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


def arrivals(number: int, rate: float) -> list[Request]:
    """Requests of different lengths at random times."""
    draw, now, found = random.Random(7), 0.0, []
    for _ in range(number):
        now += draw.expovariate(rate)
        found.append(Request(now, draw.randint(16, 256), draw.randint(32, 160)))
    return found


def read(text: str) -> dict[str, float]:
    """Sums over the labels of each metric."""
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(vllm:\w+)\{[^}]*\} (\S+)$", text, re.M):
        if not name.endswith("_bucket"):
            found[name] = found.get(name, 0.0) + float(value)
    return found


def ask(server: Server, request: Request, begun: float, draw: random.Random) -> None:
    """Sends a request when it is due and waits for the answer."""
    time.sleep(max(0.0, begun + request.sent - time.monotonic()))
    prompt = [draw.randrange(3, 2000) for _ in range(request.prompt)]
    body = {"model": "tiny", "prompt": prompt, "max_tokens": request.output}
    server.post("/v1/completions", {**body, "ignore_eos": True, "temperature": 0})


def real(size: int, requests: Sequence[Request]) -> tuple[Measured, list[tuple[float, float]]]:
    """One run of the engine, and seconds by tokens of a step, second by second."""
    environment = ensure()
    command = ["vllm", "serve", str(environment.models() / "llama"), "--served-model-name", "tiny"]
    command += ["--max-model-len", str(LENGTH), "--max-num-batched-tokens", str(TOKENS)]
    command += ["--max-num-seqs", str(size), "--block-size", str(BLOCK), "--enforce-eager"]
    command += ["--num-gpu-blocks-override", str(BLOCKS), "--dtype", "bfloat16"]
    # Of the machine's memory, which has to be free at the start: the default is nearly all of it.
    command += ["--gpu-memory-utilization", "0.2"]
    server = Server(environment, command)
    with closing(server):
        server.start(START_SECONDS)
        server.post("/v1/completions", {"model": "tiny", "prompt": [5] * 64, "max_tokens": 32})
        before = last = read(server.get("/metrics"))
        begun, points = time.monotonic(), []
        threads = [
            threading.Thread(target=ask, args=(server, one, begun, random.Random(number)))
            for number, one in enumerate(requests)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(1.0)
            now = read(server.get("/metrics"))
            change = {name: now[name] - last.get(name, 0.0) for name in now}
            steps = change["vllm:iteration_tokens_total_count"]
            gaps = change["vllm:inter_token_latency_seconds_count"]
            if steps > 5 and gaps > 5:
                seconds = change["vllm:inter_token_latency_seconds_sum"] / gaps
                points.append((change["vllm:iteration_tokens_total_sum"] / steps, seconds))
            last = now
        took = time.monotonic() - begun
        after = read(server.get("/metrics"))
    total = {name: after[name] - before.get(name, 0.0) for name in after}
    gaps = total["vllm:inter_token_latency_seconds_count"]
    return (
        Measured(
            took,
            total["vllm:generation_tokens_total"] / took,
            gaps / total["vllm:iteration_tokens_total_count"],
            total["vllm:inter_token_latency_seconds_sum"] / gaps,
            total["vllm:num_preemptions_total"],
        ),
        points,
    )


def fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Seconds a step and seconds a token, by least squares; neither below zero."""
    x = sum(tokens for tokens, _ in points) / len(points)
    y = sum(seconds for _, seconds in points) / len(points)
    spread = sum((tokens - x) ** 2 for tokens, _ in points)
    slope = sum((tokens - x) * (seconds - y) for tokens, seconds in points) / spread
    slope = min(max(slope, 0.0), y / x)
    return y - slope * x, slope


def simulated(size: int, requests: Sequence[Request], step: float, token: float) -> Measured:
    """The same run in the simulator, with the steps that were fitted."""
    stage = StageTimes((), (), ((0.0, 0.0, 0.0, None, 0.0),), None, token, 0.0, step, 0.0)
    times = Times(((stage, 1),), host_seconds=0.0, asynchronous=False, ranks=1)
    engine = Engine(
        Setting(size, TOKENS, BLOCKS - 1, BLOCK),
        Hardware(times, times, largest_graph=0),
        Truth(),
        Buckets.of(LENGTH),
    )
    engine.send(Batch.of(requests))
    end = requests[-1].sent
    while engine.count(at.FINISHED) < len(requests):
        end += step
        engine.advance(end)
    gaps, seconds = engine.histogram(at.GAP)
    return Measured(
        engine.now,
        engine.count(at.GENERATED) / engine.now,
        gaps / engine.histogram(at.STEP)[0],
        seconds / gaps,
        float(engine.count(at.PREEMPTIONS)),
    )


@click.command(help=__doc__)
@click.option("--core", type=int, help="The processor to run the engine on.")
@click.option("--requests", default=150, show_default=True)
@click.option("--rate", default=6.0, show_default=True, help="Requests a second.")
@click.option("--sizes", default="4,16,64", show_default=True, help="16 among them: it is fitted.")
def main(core: int | None, requests: int, rate: float, sizes: str) -> None:
    """Runs all and compares."""
    wanted = [int(size) for size in sizes.split(",")]
    if core is not None:
        os.sched_setaffinity(0, {core})
    load = arrivals(requests, rate)
    held, points = {}, []
    for size in wanted:
        held[size], found = real(size, load)
        print(size, held[size], flush=True)
        points = found if size == FITTED else points
    step, token = fitted(points)
    print(f"{1e3 * step:.2f} ms a step, {1e3 * token:.3f} ms a token, fitted at {FITTED}")
    rows: list[dict[str, Any]] = []
    for size in wanted:
        engine, ours = asdict(held[size]), asdict(simulated(size, load, step, token))
        for name, target in TARGETS.items():
            error = ours[name] / engine[name] - 1 if engine[name] else None
            row = {"maxNumSeqs": size, "figure": name, "engine": engine[name]}
            rows.append({**row, "simulator": ours[name], "error": error, "target": target})
            shown = "-" if error is None else f"{100 * error:+.1f} %"
            judged = "fitted" if size == FITTED else f"target {100 * target:.0f} %"
            print(
                f"{size:>4} {name:<12}{engine[name]:>10.4f}{ours[name]:>10.4f}{shown:>10}  {judged}"
            )
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
