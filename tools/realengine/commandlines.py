"""Command lines that the planner makes, of many servers that users may write."""

import random
from collections.abc import Iterator
from typing import Any

from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.parsers import REASONING, TOOL_CALLS, parsers
from vllm_operator.engine.versions import DEFAULT_IMAGE, Version
from vllm_operator.hardware.catalogue import products
from vllm_operator.models import catalogue
from vllm_operator.models.facts import ModelFacts
from vllm_operator.models.sources import facts_of
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.plan.planner import make_plan

SEED = 20260
TRIES = 20
"""So many servers are drawn at most for each command line that is wanted."""

# What users write into a field, odd ones included; None leaves the field out.
NAMES = (None, None, "chat", "0", "1e5", "a:b/c-d_e.f", "Qwen--2", "x" * 200)
REVISIONS = (None, None, "main", "refs/pr/3", "a09a35458c702b33eeacc393d103063234e8bc28", "1.0")
SIZES = (None, None, 1, 2, 3, 4, 8, 16)
ENGINE: dict[str, tuple[Any, ...]] = {
    "maxModelLen": (None, None, 512, 4096, 8192, 20_000, 32_768),
    "maxNumSeqs": (None, None, 1, 7, 64, 256, 1024),
    "maxNumBatchedTokens": (None, None, 2048, 8192, 12_345, 32_768),
    "gpuMemoryUtilization": (None, None, 0.5, 0.29, 0.875, 0.9, 0.95),
    "dtype": (None, None, "auto", "bfloat16", "float16", "float32"),
    "quantization": (None, None, None, None, "fp8", "fp8_per_tensor", "bitsandbytes", "--help"),
    "kvCacheDtype": (None, None, "auto", "fp8", "fp8_e4m3", "fp8_e5m2"),
    "blockSize": (None, None, None, 16, 32, 64, 128, 256, 48),
    "enforceEager": (None, True, False),
    "prefixCaching": (None, True, False),
    "chunkedPrefill": (None, True, False),
}
PARALLELISM: dict[str, tuple[Any, ...]] = {
    "tensor": SIZES,
    "pipeline": (None, None, None, 1, 2, 3),
    "data": (None, None, None, 1, 2),
    "expert": (None, None, None, True, False),
}
SPECULATIVE: tuple[dict[str, Any], ...] = (
    {"method": "ngram"},
    {"method": "ngram", "tokens": 5},
    {"method": "mtp"},
    {"method": "mtp", "tokens": 2},
    {"method": "draft_model", "model": "Qwen/Qwen3-0.6B"},
    {"method": "draft_model", "model": "meta-llama/Llama-3.2-1B-Instruct"},
)
ADAPTERS = ("sql", "a.b-c", "0")
EXTRA_ARGS: tuple[list[str], ...] = (
    ["--seed=1"],
    ["--seed", "-1"],
    ["-O3"],
    ["--compilation-config", '{"custom_ops":["none"]}'],
    ["--compilation-config.cudagraph_mode=NONE"],
    ["--middleware", "a", "--middleware=b"],
    ["--allowed-origins", '["*"]'],
    ["--scheduling-policy", "priority"],
    ["--disable_custom_all_reduce"],
    ["--cudagraph-capture-sizes", "1", "2", "4"],
    ["--limit-mm-per-prompt", '{"image":0,"video":0}'],
    ["--load-format=dummy"],
)
PLACES = ("s3://models/{}", "gs://models/a/{}/", "az://models/{}", "/opt/{}")
"""Where a model is read from instead of the Hub, on about every tenth server."""
ACCOUNT = [{"name": "AZURE_STORAGE_ACCOUNT_NAME", "value": "team"}]
PROFILES = ("Throughput", "Latency", "LongContext", "Cost", "Balanced")
WORKLOAD: dict[str, tuple[Any, ...]] = {
    "promptTokens": (None, 1, 3000),
    "outputTokens": (None, 1, 500),
    "concurrency": (None, 1, 10, 64),
}
STORAGE = (
    None,
    None,
    {"persistentVolumeClaim": {"claimName": "models", "path": "/qwen", "mode": "Model"}},
    {"persistentVolumeClaim": {"claimName": "models", "mode": "Cache"}},
)


def command_lines(version: str, number: int, seed: int = SEED) -> list[list[str]]:
    """`number` different commands for a vLLM version; fewer where that many cannot be found.

    The same arguments give the same commands.
    """
    draw = random.Random(f"{seed} {version}")
    found: dict[tuple[str, ...], None] = {}
    for command in _commands(version, number * TRIES, draw):
        found.setdefault(command)
        if len(found) == number:
            break
    return [list(command) for command in found]


def _commands(version: str, tries: int, draw: random.Random) -> Iterator[tuple[str, ...]]:
    models = catalogue.known_models()
    gpus = [product.name for product in products()]
    for _ in range(tries):
        server = VLLMServer.model_validate(_manifest(version, models, gpus, draw))
        facts = facts_of(server.spec.model, _nobody, _nobody)
        inputs = PlanningInputs(model=facts, default_image=DEFAULT_IMAGE)
        plan = make_plan(server, inputs)
        if isinstance(plan, Plan):
            yield tuple(plan.engine.command)


def _nobody(_: object) -> ModelFacts:
    raise AssertionError("every model is catalogued")


def _manifest(
    version: str, models: tuple[str, ...], gpus: list[str], draw: random.Random
) -> dict[str, Any]:
    storage = draw.choice(STORAGE)
    on_volume = storage is not None and storage["persistentVolumeClaim"]["mode"] == "Model"
    place = draw.choice(PLACES) if draw.random() < 0.1 and not on_volume else "{}"
    model = {
        "id": place.format(draw.choice(models)),
        "servedName": draw.choice(NAMES),
        "additionalServedNames": draw.choice((None, ["a"], ["b/c", "d:e"])),
        "revision": None if on_volume or place != "{}" else draw.choice(REVISIONS),
        "trustRemoteCode": draw.choice((None, True)),
        "storage": storage,
    }
    engine = {
        "image": f"vllm/vllm-openai:v{version}",
        **_few(ENGINE, draw),
        **_features(Version.parse(version), draw),
        "env": ACCOUNT if place.startswith("az") else [],
    }
    workload = _few(WORKLOAD, draw) if draw.random() < 0.3 else {}
    if draw.random() < 0.5:
        workload["profile"] = draw.choice(PROFILES)
    spec = {
        "model": {name: value for name, value in model.items() if value is not None},
        "engine": engine,
        "gpu": {"product": draw.choice(gpus), "perNode": draw.choice((1, 2, 4, 8))},
        "parallelism": _few(PARALLELISM, draw) if draw.random() < 0.3 else {},
        "workload": workload,
        "rollout": {"drainSeconds": draw.choice((0, 5, 3600))} if draw.random() < 0.3 else {},
    }
    return {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMServer",
        "metadata": {"name": "chat", "namespace": "team"},
        "spec": {name: value for name, value in spec.items() if value},
    }


def _features(version: Version, draw: random.Random) -> dict[str, Any]:
    """Each on about every third server."""
    adapters = [{"name": name, "path": f"/adapters/{name}"} for name in ADAPTERS]
    lora = {
        "maxLoras": draw.choice((1, 4)),
        "maxRank": draw.choice((8, 16, 64)),
        "adapters": adapters[: draw.choice((0, 1, 3))],
    }
    drawn = {
        "speculative": draw.choice(SPECULATIVE),
        "lora": lora,
        "toolCallParser": draw.choice(parsers(TOOL_CALLS, version)),
        "reasoningParser": draw.choice(parsers(REASONING, version)),
        "extraArgs": draw.choice(EXTRA_ARGS),
    }
    return {name: value for name, value in drawn.items() if draw.random() < 0.3}


def _few(choices: dict[str, tuple[Any, ...]], draw: random.Random) -> dict[str, Any]:
    """Some of the fields: with all at once hardly any server could be planned."""
    some = draw.sample(sorted(choices), draw.randint(0, min(4, len(choices))))
    drawn = {name: draw.choice(choices[name]) for name in some}
    return {name: value for name, value in drawn.items() if value is not None}
