"""Entries of the node agent's table of images: the scripted engine, and the real one."""

import sys
from pathlib import Path

from localcluster.agent.images import Image
from realengine.environments import Environment

_TOOLS = Path(__file__).resolve().parents[1]


def scripted(pattern: str = "scripted/vllm:*", pull_seconds: float = 0.0) -> Image:
    """Images whose `vllm` is the scripted engine; its version is the tag's (`v0.32.0`)."""
    engine = [sys.executable, "-S", "-m", "scriptedengine"]
    return Image(
        pattern,
        programs={
            "vllm": ["env", f"PYTHONPATH={_TOOLS}", *engine],
            "python3": [sys.executable, "-I", "-S"],
        },
        entrypoint=["vllm", "serve"],
        pull_seconds=pull_seconds,
    )


def real(environment: Environment, pattern: str | None = None) -> Image:
    """The images of the real vLLM that an environment holds."""
    variables = {
        name: value
        for name, value in environment.variables().items()
        if name.startswith(("HF_", "VLLM_", "DO_NOT_TRACK", "PYTHONPATH"))
    }
    return Image(
        pattern or f"vllm/vllm-openai:v{environment.lock.version}",
        programs={"vllm": [str(environment.vllm)], "python3": [str(environment.python)]},
        # A GPU's memory is planned, and a CPU's is not: 1 GiB is its KV cache, whatever share of
        # the machine's memory --gpu-memory-utilization would be.
        environment={**variables, "VLLM_CPU_KVCACHE_SPACE": "1"},
        entrypoint=["vllm", "serve"],
    )
