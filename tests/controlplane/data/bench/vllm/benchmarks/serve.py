"""`vllm bench serve`, played: figures that follow from its arguments, and no request is sent."""

import argparse
import json
import os
import random
import time
from pathlib import Path

VALUES = (
    *("--base-url", "--endpoint", "--model", "--tokenizer", "--dataset-name"),
    *("--request-rate", "--percentile-metrics", "--metric-percentiles", "--temperature"),
    *("--result-dir", "--result-filename"),
)
NUMBERS = (
    *("--random-input-len", "--random-output-len", "--random-prefix-len"),
    *("--num-prompts", "--max-concurrency", "--seed"),
)


def add_cli_args(parser: argparse.ArgumentParser) -> None:
    """The flags that it is called with; any other is an error, as in vLLM's parser."""
    for name in VALUES:
        parser.add_argument(name)
    for name in NUMBERS:
        parser.add_argument(name, type=int)
    for name in ("--save-result", "--ignore-eos", "--disable-tqdm"):
        parser.add_argument(name, action="store_true")


def main(args: argparse.Namespace) -> None:
    """A server whose steps take 10 ms, and 2 % more or less from run to run."""
    if os.environ.get("PLAYED_BENCH") == "fails":
        raise ValueError("All requests failed. This is likely due to a misconfiguration")
    if os.environ.get("PLAYED_BENCH") == "lasts":
        time.sleep(300)
    speed = random.Random(args.seed).uniform(0.98, 1.02)
    tokens = 100 * args.max_concurrency * speed
    found = {
        "completed": args.num_prompts,
        "output_throughput": tokens,
        "request_throughput": tokens / args.random_output_len,
        "ttfts": [1.0],
    }
    for name, milliseconds in (("ttft", 50.0), ("tpot", 10.0), ("itl", 10.0), ("e2el", 300.0)):
        for kind in ("mean", "p50", "p90", "p99"):
            found[f"{kind}_{name}_ms"] = milliseconds / speed
    (Path(args.result_dir) / args.result_filename).write_text(json.dumps(found))
