"""Asks the package llm-d-planner; run by the interpreter of an environment that holds it.

Standard input: a JSON list of starts (``support_peer_packages.question``). Standard output: a JSON
object with the package's version and, for each start, what ``allocatable_kv_cache_memory``
(llm-d-planner 0.3.3, planner/capacity_planner.py) leaves, as bytes of one GPU, or its refusal.

It counts a checkpoint's bytes from the headers of the files on the Hub
(``get_safetensors_metadata_from_hf``), which is the only thing in it that needs a network. That
question is answered here with the size that the start comes with.
"""

import json
import logging
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from planner import capacity_planner  # type: ignore[import-not-found]

GIBIBYTE = 1024**3


def answer(start: dict[str, Any]) -> dict[str, Any]:
    """One start's estimate or refusal."""
    if start["quantization"]:
        return {"native": {"refusal": "a checkpoint that is quantised as it is loaded"}}
    if not start["weightBytes"]:
        return {"native": {"refusal": "the size of the checkpoint is not known"}}
    weights = start["weightBytes"] / GIBIBYTE
    capacity_planner.model_memory_req = lambda *_: weights
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "config.json").write_text(json.dumps(start["config"]), encoding="utf-8")
        try:
            total = capacity_planner.allocatable_kv_cache_memory(
                directory,
                capacity_planner.get_model_config_from_hf(directory),
                start["memoryBytes"] / GIBIBYTE,
                start["gpuMemoryUtilization"],
                start["tensor"],
                start["pipeline"],
                start["data"],
            )
        except (
            Exception
        ) as refusal:  # what transformers says to a config.json that it does not know
            return {"native": {"refusal": f"{refusal}".replace(directory, "")}}
    if total <= 0:
        return {"native": {"refusal": "no KV budget"}}  # it cuts off at 0
    gpus = start["tensor"] * start["pipeline"] * start["data"]
    return {
        "native": {
            "kvBytes": total / gpus * GIBIBYTE,
            "weightBytes": start["weightBytes"] * start["data"] / gpus,
        }
    }


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    answers = [answer(start) for start in json.load(sys.stdin)]
    sys.stdout.write(json.dumps({"version": version("llm-d-planner"), "answers": answers}) + "\n")
