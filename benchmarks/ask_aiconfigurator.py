"""Asks the package aiconfigurator; run by the interpreter of an environment that holds it.

Standard input: a JSON list of starts (``support_peer_packages.question``). Standard output: a JSON
object with the package's version and, for each start, what ``estimate_kv_cache`` answers natively
and, where it does not, what it answers with ``allow_naive_fallback`` (aiconfigurator 0.12.0,
sdk/memory.py), each in bytes of one GPU, or its refusal in its own words.
"""

import json
import logging
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiconfigurator.sdk.memory import estimate_kv_cache  # type: ignore[import-not-found]


def answer(start: dict[str, Any]) -> dict[str, Any]:
    """One start's estimates and refusals."""
    with tempfile.TemporaryDirectory() as directory:
        # A model may be a folder: with the name of a model, a config.json would be fetched.
        Path(directory, "config.json").write_text(json.dumps(start["config"]), encoding="utf-8")
        mode = start["quantization"] or None  # None: as config.json says
        native = ask(directory, start, gemm_quant_mode=mode, moe_quant_mode=mode)
        if "refusal" not in native or mode:  # the fallback takes no mode
            return {"native": native}
        fallback = ask(
            directory,
            start,
            allow_naive_fallback=True,
            # Natively it takes its own figure of a GPU that it knows; here it has none.
            gpu_memory_capacity_bytes_override=start["memoryBytes"],
        )
        return {"native": native, "fallback": fallback}


def ask(directory: str, start: dict[str, Any], **options: Any) -> dict[str, Any]:
    """What the package says to one call."""
    ranks = start["tensor"] * start["data"]
    try:
        estimate = estimate_kv_cache(
            directory,
            start["system"],
            "vllm",
            "current",
            max_num_tokens=start["maxNumBatchedTokens"],
            max_batch_size=start["maxNumSeqs"],
            memory_fraction_kind="of_total",
            memory_fraction_value=start["gpuMemoryUtilization"],
            tp_size=start["tensor"],
            pp_size=start["pipeline"],
            attention_dp_size=start["data"],
            # vLLM without --enable-expert-parallel: each expert is split over all ranks.
            moe_tp_size=ranks,
            moe_ep_size=1,
            **options,
        )
    except Exception as refusal:  # its own ValueError, and whatever an odd config.json meets in it
        return {"refusal": f"{refusal}".replace(directory, "")}
    breakdown = estimate["memory_breakdown"] or {}
    return {
        "kvBytes": estimate["total_kv_size_bytes"],
        "weightBytes": breakdown.get("weights_bytes"),
    }


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    answers = [answer(start) for start in json.load(sys.stdin)]
    sys.stdout.write(json.dumps({"version": version("aiconfigurator"), "answers": answers}) + "\n")
