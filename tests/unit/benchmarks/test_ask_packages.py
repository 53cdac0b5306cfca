"""The scripts that ask other planners' packages, with stand-ins for the packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
GIBIBYTE = 1024**3
START = {
    "config": {"hidden_size": 4096},
    "weightBytes": 16 * GIBIBYTE,
    "quantization": "",
    "system": "h100_sxm",
    "memoryBytes": 80 * GIBIBYTE,
    "gpuMemoryUtilization": 0.9,
    "maxNumBatchedTokens": 8192,
    "maxNumSeqs": 256,
    "tensor": 2,
    "pipeline": 1,
    "data": 2,
}

# Natively it knows an H100 only; what it answers with is what it was told.
AICONFIGURATOR = """\
import json, os
def estimate_kv_cache(model, system, backend, version, **told):
    with open(os.path.join(model, "config.json")) as file:
        assert json.load(file) == {"hidden_size": 4096}
    native = system == "h100_sxm"
    if told.get("gemm_quant_mode") != told.get("moe_quant_mode"):
        raise ValueError("two modes")
    if told.get("gemm_quant_mode"):
        raise ValueError(f"asked for {told['gemm_quant_mode']}")
    if not native and not told.get("allow_naive_fallback"):
        raise ValueError(f"{model}: no queryable versions defined")
    if native:
        kv = told["moe_tp_size"]
    else:
        kv = told["gpu_memory_capacity_bytes_override"]
    return {
        "total_kv_size_bytes": kv,
        "memory_breakdown": {"weights_bytes": 7} if native else None,
    }
"""

# Leaves, over all GPUs, what the memory has above the checkpoint.
LLM_D_PLANNER = """\
def model_memory_req(name, config, token): raise OSError("no network")
def get_model_config_from_hf(name): return "config"
def allocatable_kv_cache_memory(name, config, memory, utilization, tensor, pipeline, data):
    weights = model_memory_req(name, config, None)
    return max(0, memory * tensor * pipeline * data - weights * data)
"""


def ask(tmp_path: Path, script: str, distribution: str, module: str, text: str, **changes: Any):
    """What a script prints for one start when this module stands for the package's."""
    place = tmp_path / module
    place.parent.mkdir(parents=True)
    place.write_text(text)
    facts = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    answer = subprocess.run(
        [sys.executable, str(BENCHMARKS / script)],
        input=json.dumps([START | changes]),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
    )
    return json.loads(answer.stdout)


@pytest.fixture
def aiconfigurator(tmp_path: Path):
    def asked(**changes: Any):
        place = "aiconfigurator/sdk/memory.py"
        return ask(
            *(tmp_path, "ask_aiconfigurator.py", "aiconfigurator", place, AICONFIGURATOR), **changes
        )

    return asked


@pytest.fixture
def llm_d_planner(tmp_path: Path):
    def asked(**changes: Any):
        place = "planner/capacity_planner.py"
        return ask(
            *(tmp_path, "ask_llm_d_planner.py", "llm-d-planner", place, LLM_D_PLANNER), **changes
        )

    return asked


def test_aiconfigurator_is_told_that_experts_are_split_over_all_ranks(aiconfigurator):
    assert aiconfigurator()["answers"] == [{"native": {"kvBytes": 4, "weightBytes": 7}}]


def test_aiconfigurator_s_fallback_is_asked_with_the_gpu_s_memory(aiconfigurator):
    (answer,) = aiconfigurator(system="NVIDIA-A40")["answers"]
    assert answer["fallback"] == {"kvBytes": 80 * GIBIBYTE, "weightBytes": None}


def test_a_refusal_of_aiconfigurator_names_no_temporary_folder(aiconfigurator):
    (answer,) = aiconfigurator(system="NVIDIA-A40")["answers"]
    assert answer["native"] == {"refusal": ": no queryable versions defined"}


def test_aiconfigurator_is_told_what_the_engine_quantises_to(aiconfigurator):
    assert aiconfigurator(quantization="fp8")["answers"] == [
        {"native": {"refusal": "asked for fp8"}}
    ]


def test_llm_d_planner_is_not_asked_for_what_is_quantised_as_it_is_loaded(llm_d_planner):
    (answer,) = llm_d_planner(quantization="fp8")["answers"]
    assert answer["native"] == {"refusal": "a checkpoint that is quantised as it is loaded"}


def test_an_answer_comes_with_the_package_s_version(llm_d_planner):
    assert llm_d_planner()["version"] == "1.2"


def test_llm_d_planner_s_total_is_divided_by_the_gpus(llm_d_planner):
    (answer,) = llm_d_planner()["answers"]
    assert answer["native"] == {"kvBytes": 72 * GIBIBYTE, "weightBytes": 8 * GIBIBYTE}


def test_llm_d_planner_is_not_asked_without_the_checkpoint_s_size(llm_d_planner):
    (answer,) = llm_d_planner(weightBytes=None)["answers"]
    assert answer["native"] == {"refusal": "the size of the checkpoint is not known"}


def test_nothing_left_is_no_answer_of_llm_d_planner(llm_d_planner):
    (answer,) = llm_d_planner(weightBytes=200 * GIBIBYTE)["answers"]
    assert answer["native"] == {"refusal": "no KV budget"}
