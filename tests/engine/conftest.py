"""The real engine: its environment, tiny models, and one server with a plan's own command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from realengine import environments
from realengine.environments import SERVING, SERVING_VERSION, Environment
from realengine.server import Server
from support.builders import server_manifest
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.versions import DEFAULT_IMAGE
from vllm_operator.models.facts import facts_from_inline
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.plan.planner import make_plan

KV_BYTES = 64_000_000
BLOCK_SIZE = 32


@pytest.fixture(scope="session")
def environment() -> Environment:
    found = environments.installed(SERVING)
    assert found is not None, "the engine is not installed: `make engine` does that, once, 5.8 GB"
    return found


@pytest.fixture(scope="session")
def models(environment: Environment) -> Path:
    return environment.models()


@pytest.fixture(scope="session")
def planned(models: Path) -> Plan:
    """The plan of the tiny Llama, with every switch and limit that works on CPUs pinned."""
    config = json.loads((models / "llama" / "config.json").read_text())
    server = VLLMServer.model_validate(
        server_manifest(
            model={"id": "tiny/llama", "servedName": "tiny", "config": config},
            engine={
                "image": f"vllm/vllm-openai:v{SERVING_VERSION}",
                "maxModelLen": 2048,
                "maxNumSeqs": 16,
                "maxNumBatchedTokens": 1024,
                "blockSize": BLOCK_SIZE,
                "dtype": "bfloat16",
                "enforceEager": True,
                "prefixCaching": True,
                "chunkedPrefill": True,
            },
            gpu={"product": "NVIDIA-H100-80GB-HBM3", "perNode": 1},
        )
    )
    plan = make_plan(
        server,
        PlanningInputs(model=facts_from_inline(server.spec.model), default_image=DEFAULT_IMAGE),
    )
    assert plan.feasible, plan.problems
    return plan


@pytest.fixture(scope="session")
def serving(environment: Environment, models: Path, planned: Plan) -> Iterator[Server]:
    """A real server that runs the plan's command, with the model from the disk."""
    command = [
        str(models / "llama") if argument == "tiny/llama" else argument
        for argument in planned.engine.command
    ]
    # What a CPU has for GPU memory: a number of its own.
    with Server(environment, [*command, "--kv-cache-memory-bytes", str(KV_BYTES)]) as server:
        yield server
