"""Measures a GPU with PyTorch: matrix products, copies in its memory, and all-reduces.

Each figure is the best of several sizes, and of several rounds of each: what the GPU can do, and
not what it does while something else disturbs it. One JSON object is printed at the end.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

MARK = "vllm-operator-hardware "
ROUNDS = 5
LATENCY_BYTES = 8192
SPARE = 4
"""A copy takes at most one of so many parts of the free memory, twice."""


def tell(**record: Any) -> None:
    """One line that is read by whoever started this."""
    print(MARK + json.dumps(record), flush=True)  # noqa: T201


def synchronize(torch: Any, device: str) -> None:
    """Wait until the GPU has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def best_seconds(torch: Any, device: str, work: Callable[[], Any], least: float) -> float:
    """Seconds of one call in the fastest round; a round lasts `least` seconds or more."""
    work()
    calls = 1
    while True:
        seconds = timed(torch, device, work, calls)
        if seconds >= least:
            break
        calls = max(2 * calls, int(1.2 * calls * least / max(seconds, 1e-9)))
    rounds = [seconds, *(timed(torch, device, work, calls) for _ in range(ROUNDS - 1))]
    return min(rounds) / calls


def timed(torch: Any, device: str, work: Callable[[], Any], calls: int) -> float:
    """Seconds of so many calls in a row."""
    synchronize(torch, device)
    begin = time.perf_counter()
    for _ in range(calls):
        work()
    synchronize(torch, device)
    return time.perf_counter() - begin


def product_of(torch: Any, device: str, kind: str, size: list[int]) -> Callable[[], Any]:
    """A matrix product of M x K and K x N."""
    rows, columns, inner = size
    dtype = torch.bfloat16
    left = torch.randn(rows, inner, device=device, dtype=dtype)
    right = torch.randn(columns, inner, device=device, dtype=dtype).t()
    if kind == "16bit":
        return lambda: left @ right
    narrow = torch.float8_e4m3fn
    left, right = left.to(narrow), right.to(narrow)
    one = torch.ones((), device=device)
    return lambda: torch._scaled_mm(left, right, scale_a=one, scale_b=one, out_dtype=dtype)


def flops(torch: Any, device: str, kind: str, given: dict[str, Any]) -> float | None:
    """Operations a second of the best size; None where there is no such product."""
    best = None
    for size in given["sizes"]:
        try:
            seconds = best_seconds(torch, device, product_of(torch, device, kind, size), given["s"])
        except Exception as problem:  # this GPU or this PyTorch has no such product, or no room
            tell(note=f"{kind} {size}: {type(problem).__name__}: {problem!s:.200}")
            continue
        found = 2.0 * size[0] * size[1] * size[2] / seconds
        tell(state=f"{kind} {'x'.join(map(str, size))}", value=found)
        best = max(best or 0.0, found)
    return best


def copy_bandwidth(torch: Any, device: str, given: dict[str, Any]) -> float:
    """Bytes a second that the best copy read and wrote."""
    best = 0.0
    for size in given["copies"]:
        if device == "cuda":
            size = min(size, torch.cuda.mem_get_info()[0] // SPARE)
        source = torch.ones(size // 4, device=device, dtype=torch.float32)
        target = torch.empty_like(source)
        seconds = best_seconds(torch, device, partial(target.copy_, source), given["s"])
        found = 2.0 * source.numel() * 4 / seconds
        tell(state=f"copies {size >> 20} MiB", value=found)
        best = max(best, found)
    return best


def all_reduce(rank: int, gpus: int, given: dict[str, Any], device: str) -> None:
    """One process of an all-reduce: its bandwidth and the time of a small one."""
    torch: Any = importlib.import_module("torch")
    distributed: Any = importlib.import_module("torch.distributed")
    if device == "cuda":
        torch.cuda.set_device(rank)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(given["port"]))
    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, rank=rank, world_size=gpus)
    found = []
    for size, calls in ((LATENCY_BYTES, 200), (given["reduced"], 10)):
        tensor = torch.zeros(size // 2, device=device, dtype=torch.bfloat16)
        work = partial(distributed.all_reduce, tensor)
        timed(torch, device, work, 5)
        found.append(min(timed(torch, device, work, calls) for _ in range(ROUNDS)) / calls)
    if rank == 0:
        tell(joined={"seconds": found[0], "bandwidth": 2 * (gpus - 1) / gpus * size / found[1]})
    distributed.barrier()
    distributed.destroy_process_group()


def links(gpus: int, given: dict[str, Any]) -> dict[str, float]:
    """What an all-reduce between the GPUs takes; empty where it cannot be done."""
    again = sys.orig_argv[:-1]
    ranks = [
        subprocess.Popen(
            [*again, json.dumps({**given, "rank": rank, "gpus": gpus})],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(gpus)
    ]
    said = [one.communicate()[0] for one in ranks]
    if any(one.returncode for one in ranks):
        tell(note="no all-reduce: a process of it failed")
        return {}
    line = next(one for one in said[0].splitlines() if one.startswith(MARK))
    found: dict[str, float] = json.loads(line.removeprefix(MARK))["joined"]
    return found


def main(given: dict[str, Any]) -> None:
    """Measure, and print the record."""
    device = given.get("device", "cuda")
    if "rank" in given:
        all_reduce(given["rank"], given["gpus"], given, device)
        return
    torch: Any = importlib.import_module("torch")
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU: the image is built for another vendor or driver")
    gpus = torch.cuda.device_count() if device == "cuda" else given["gpus"]
    name = torch.cuda.get_device_name(0) if device == "cuda" else "cpu"
    tell(state=f"measures {name}")
    sixteen = flops(torch, device, "16bit", given)
    if sixteen is None:
        raise SystemExit("no 16-bit matrix product could be measured; the notes above say why")
    record = {
        "flops_16bit": sixteen,
        "flops_fp8": flops(torch, device, "fp8", given),
        "copy_bandwidth": copy_bandwidth(torch, device, given),
        "gpus": gpus,
        "software": f"PyTorch {torch.__version__}",
    }
    joined = links(gpus, given) if gpus > 1 else {}
    record["all_reduce_bandwidth"] = joined.get("bandwidth")
    record["all_reduce_seconds"] = joined.get("seconds")
    tell(measured=record, device=name)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
