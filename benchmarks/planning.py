"""How long a plan takes once the model's facts are loaded, and what 1,000 servers take together.

    PYTHONPATH=operator python benchmarks/planning.py

Target: under 2 ms for the median plan. Prints a table and writes build/benchmarks/planning.json.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from pathlib import Path

from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.versions import DEFAULT_IMAGE
from vllm_operator.hardware import catalogue as gpus
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.models import catalogue
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.plan.planner import make_plan

ROUNDS = 200
SERVERS = 1000
TARGET_MILLISECONDS = 2.0
RESULT = Path("build/benchmarks/planning.json")

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"
QWEN_32B = "Qwen/Qwen2.5-32B-Instruct"
DEEPSEEK = "deepseek-ai/DeepSeek-R1"
CASES = (
    ("Llama-3.1-8B on H100", LLAMA_8B, {"gpu": {"product": "H100"}}),
    ("Llama-3.1-70B on H100", LLAMA_70B, {"gpu": {"product": "H100"}}),
    ("Llama-3.1-70B, six products offered", LLAMA_70B, {}),
    ("Llama-3.1-70B, nothing fits", LLAMA_70B, {"gpu": {"product": "L4", "perNode": 4}}),
    ("Llama-3.1-70B, load of 64, six products", LLAMA_70B, {"workload": {"concurrency": 64}}),
    ("Qwen2.5-32B, stages in a node of six", QWEN_32B, {"gpu": {"product": "A10", "perNode": 6}}),
    ("DeepSeek-R1 on nodes of eight H100", DEEPSEEK, {"gpu": {"product": "H100", "perNode": 8}}),
    ("DeepSeek-R1, six products offered", DEEPSEEK, {}),
)
SEVERAL_NODES = frozenset({DEEPSEEK})
"""Models that are planned on up to eight nodes, as on the command line."""


def server(name: str, model: str, spec: dict[str, object]) -> VLLMServer:
    """A server of the benchmark."""
    return VLLMServer.model_validate(
        {
            "apiVersion": "vllm-operator.io/v1alpha1",
            "kind": "VLLMServer",
            "metadata": {"name": name},
            "spec": {"model": {"id": model}, **spec},
        }
    )


def offers() -> tuple[GPUOffer, ...]:
    """Six products, eight GPUs a node."""
    found = [gpus.find(name) for name in ("H100 SXM", "H200", "A100 SXM 80GB", "L40S", "L4", "T4")]
    return tuple(
        GPUOffer(
            product=product.name,
            memory_bytes=product.memory_bytes,
            per_node=8,
            nodes=4,
            resource_name=product.resource_name,
            node_labels=product.node_labels,
            compute_capability=product.compute_capability,
        )
        for product in found
        if product is not None
    )


def inputs(model: str) -> PlanningInputs:
    """Pinned inputs of a case."""
    return PlanningInputs(
        model=catalogue.find(model),
        default_image=DEFAULT_IMAGE,
        offers=offers(),
        max_nodes=8 if model in SEVERAL_NODES else 1,
    )


def milliseconds(planned: VLLMServer, given: PlanningInputs) -> list[float]:
    """Time of each of many plans, after one that fills the tables."""
    make_plan(planned, given)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        make_plan(planned, given)
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)


def main() -> int:
    """Run every case; exit status 1 where a median misses the target."""
    cases = []
    print(f"{'case':<42}{'median ms':>10}{'p95 ms':>10}{'worst ms':>10}")
    for label, model, spec in CASES:
        times = milliseconds(server("chat", model, spec), inputs(model))
        row = {
            "case": label,
            "medianMilliseconds": round(statistics.median(times), 3),
            "p95Milliseconds": round(times[int(len(times) * 0.95)], 3),
            "worstMilliseconds": round(times[-1], 3),
        }
        cases.append(row)
        print(
            f"{label:<42}{row['medianMilliseconds']:>10}{row['p95Milliseconds']:>10}"
            f"{row['worstMilliseconds']:>10}"
        )
    names = catalogue.known_models()
    fleet = [server(f"s{number}", names[number % len(names)], {}) for number in range(SERVERS)]
    given = {name: inputs(name) for name in names}
    start = time.perf_counter()
    feasible = sum(make_plan(one, given[one.spec.model.id]).feasible for one in fleet)
    seconds = time.perf_counter() - start
    print(
        f"{SERVERS} servers of {len(names)} models, six products: {seconds:.2f} s, {feasible} fit"
    )
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(
        json.dumps(
            {
                "cases": cases,
                "fleet": {"servers": SERVERS, "seconds": round(seconds, 3), "feasible": feasible},
                "targetMilliseconds": TARGET_MILLISECONDS,
                "python": platform.python_version(),
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )
    return int(any(case["medianMilliseconds"] > TARGET_MILLISECONDS for case in cases))


if __name__ == "__main__":
    sys.exit(main())
