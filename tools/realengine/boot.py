"""Starts vLLM's engine many times in one process; run by the interpreter of an environment.

A server spends nine tenths of its start importing vLLM in three processes one after the other. This
script imports it once, and then builds the same engine (the one behind `vllm serve`, up to and with
its KV cache) for one set of arguments after the other.

Standard input: a JSON list of objects of engine arguments (`model`, `max_model_len`, …). The last
line of standard output: a JSON list with, for each, either what the engine then says of its KV
cache, or what it refused with.
"""

import json
import logging
import os
import sys
from typing import Any

# The engine's core in this process, so that its configuration can be read.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
# Log lines to standard error; standard output is for the answer.
os.environ["VLLM_LOGGING_STREAM"] = "ext://sys.stderr"

from vllm import LLM  # type: ignore[import-not-found]
from vllm.distributed import (  # type: ignore[import-not-found]
    cleanup_dist_env_and_memory,
)


class Lines(logging.Handler):
    """Keeps what the engine prints of its KV cache."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a line."""
        text = record.getMessage()
        if "KV cache size" in text:
            self.kept.append(text)


def boot(arguments: dict[str, Any]) -> dict[str, Any]:
    """One start, and what the engine says of its KV cache."""
    lines = Lines()
    logger = logging.getLogger("vllm")
    logger.addHandler(lines)
    try:
        engine = LLM(enforce_eager=True, disable_log_stats=True, **arguments)
        cache = engine.llm_engine.vllm_config.cache_config
        return {
            "tokens": cache.kv_cache_size_tokens,
            "concurrency": cache.kv_cache_max_concurrency,
            "blocks": cache.num_gpu_blocks,
            "blockSize": cache.block_size,
            "lines": lines.kept,
        }
    except ValueError as refusal:
        return {"refusal": str(refusal)}
    finally:
        logger.removeHandler(lines)
        cleanup_dist_env_and_memory()


if __name__ == "__main__":
    answers = [boot(arguments) for arguments in json.load(sys.stdin)]
    sys.stdout.write(json.dumps(answers) + "\n")
