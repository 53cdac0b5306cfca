"""Runs vLLM's own `vllm bench serve` again and again, and prints what each run measured.

vLLM is imported once, which takes longest; each run is a fork of that process, so that none sees
what another left. No GPU is touched: the load is made by a processor.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import re
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

MARK = "vllm-operator-benchmark "
KEPT = re.compile(
    r"duration|completed|failed|total_(input|output)_tokens|request_throughput"
    r"|(output|total_token)_throughput|(mean|median|std|p[0-9]+)_(ttft|tpot|itl|e2el)_ms"
)
TOKENIZER_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py"]


def tell(**record: Any) -> None:
    """One line that is read by whoever started this."""
    print(MARK + json.dumps(record), flush=True)  # noqa: T201


def without_gpu() -> None:
    """The platform that `vllm bench` itself takes where there is no GPU."""
    platforms: Any = importlib.import_module("vllm.platforms")
    if type(platforms.current_platform).__name__ != "UnspecifiedPlatform":
        return
    try:
        platforms.current_platform = importlib.import_module("vllm.platforms.cpu").CpuPlatform()
    except Exception as problem:  # some versions need none
        tell(note=f"the platform stays unspecified: {problem}")


def tokenizer_of(name: str, revision: str | None) -> str:
    """A folder with the tokenizer of that revision; the name itself where none can be had."""
    if Path(name).is_dir():
        return name
    try:
        hub = importlib.import_module("huggingface_hub")
        folder = hub.snapshot_download(name, revision=revision, allow_patterns=TOKENIZER_FILES)
        return str(folder)
    except Exception as problem:  # of whatever the Hub's client raises
        tell(note=f"the tokenizer of {name} is left to vLLM: {problem}")
        return name


def measured(serve: Any, arguments: list[str]) -> dict[str, float | None]:
    """What one run of `vllm bench serve` with these arguments wrote."""
    with tempfile.TemporaryDirectory() as folder:
        where = ["--save-result", "--result-dir", folder, "--result-filename", "result.json"]
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                parser = argparse.ArgumentParser(prog="vllm bench serve")
                serve.add_cli_args(parser)
                serve.main(parser.parse_args([*arguments, *where]))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit(f"vllm bench serve ended with {os.waitstatus_to_exitcode(status)}")
        found = json.loads((Path(folder) / "result.json").read_text())
    return {name: plain(value) for name, value in found.items() if KEPT.fullmatch(name)}


def plain(value: Any) -> float | None:
    """A number that JSON can hold."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if number and math.isfinite(value) else None


def main(given: dict[str, Any]) -> None:
    """Each run of `given`, in its order; the end is told where all went well."""
    tell(begin=given["about"])
    tell(state="imports vLLM")
    without_gpu()
    serve = importlib.import_module("vllm.benchmarks.serve")
    model = given["tokenizer"]
    tokenizer = tokenizer_of(model["name"], model.get("revision"))
    for number, run in enumerate(given["runs"]):
        tell(state=run["says"], number=number, of=len(given["runs"]))
        arguments = [*given["arguments"], *run["arguments"], "--tokenizer", tokenizer]
        found = measured(serve, arguments)
        if run["repeat"] is not None:
            tell(run={"point": run["point"], "repeat": run["repeat"], "figures": found})
    tell(end=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
