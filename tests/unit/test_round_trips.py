"""What is pinned comes back from JSON as it was, each field of it.

Every example says something in every field, so that a field that is written and not read, or read
as another, is seen; a new field wants its example.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, replace
from typing import Any

import pytest

from vllm_operator.api.v1alpha1 import VLLMServerSpec
from vllm_operator.errors import ModelAccessDenied
from vllm_operator.hardware.measured import MeasuredGPU
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.hardware.prices import Prices
from vllm_operator.lifecycle.revisions import Abandoned
from vllm_operator.models.facts import ModelFacts
from vllm_operator.sizing.asked.defaults import Defaults
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.repairs import Repair
from vllm_operator.sizing.asked.storage import ClaimFacts
from vllm_operator.sizing.asked.tuned import Tuned
from vllm_operator.sizing.memory.calibration import Calibration
from vllm_operator.sizing.performance.learned import Kind, Load, MeasuredSpeed
from vllm_operator.sizing.performance.multipliers import Multipliers
from vllm_operator.tuning.curve import Posterior

OFFER = GPUOffer(
    product="NVIDIA-L4",
    memory_bytes=22 * 1024**3,
    per_node=4,
    nodes=3,
    resource_name="nvidia.com/gpu.shared",
    node_labels={"nvidia.com/gpu.product": ("NVIDIA-L4", "L4")},
    compute_capability=(8, 9),
)
FACTS = ModelFacts(config={"hidden_size": 64}, weight_bytes=1000, source="configMap")
CLAIM = ClaimFacts("weights", ("ReadOnlyMany", "ReadWriteOnce"))
REPAIR = Repair("fewerSequences", 12.5, "repair 1 of 3: lowered")
TUNED = Tuned(
    reason="a trial",
    max_num_seqs=11,
    max_num_active_seqs=7,
    max_num_batched_tokens=4096,
    gpu_memory_utilization=0.87,
    max_model_len=9000,
)
CALIBRATION = Calibration(
    version="0.30.0",
    gpu="NVIDIA-L4",
    model="abc",
    tensor=2,
    pipeline=3,
    difference=-5,
    max_num_seqs=8,
    max_num_batched_tokens=2048,
    engine="def",
)
MEASURED = MeasuredGPU(
    product="NVIDIA-L4",
    at="2026-01-01T00:00:00Z",
    flops_16bit=1.0e14,
    copy_bandwidth=2.5e11,
    flops_fp8=2.0e14,
    all_reduce_bandwidth=9.0e9,
    all_reduce_seconds=4.0e-5,
    gpus=4,
    software="PyTorch 2.9.1, image",
)
SPEED = MeasuredSpeed(
    kind=Kind("abc", "0.30.0", "NVIDIA-L4", "def", 2, 3, 4, "ghi"),
    load=Load(100, 20, 8),
    between=1.1,
    throughput=0.9,
    at="2026-01-01T00:00:00Z",
)
INPUTS = PlanningInputs(
    model=FACTS,
    default_image="mine/vllm:v0.30.0",
    model_problem=ModelAccessDenied("spec.model.id", "is closed"),
    offers=(OFFER,),
    nodes_visible=True,
    shared_products=("NVIDIA-T4-SHARED",),
    preferred_product="NVIDIA-L4",
    max_nodes=5,
    claim=CLAIM,
    host_path_prefixes=("/data", "/srv"),
    identity="Platform",
    defaults=Defaults.model_validate({"pod": {"labels": {"team": "a"}}}),
    repairs=(REPAIR,),
    calibrations=(CALIBRATION,),
    tuned=TUNED,
    measured_gpus=(MEASURED,),
    measured_speeds=(SPEED,),
    prices=Prices("EUR", (("H100", 3.0), ("NVIDIA-L4", 0.71))),
)
ABANDONED = Abandoned(
    spec=VLLMServerSpec.model_validate({"model": {"id": "a/b"}}),
    replan="2026-01-01",
    reason="KVCacheTooSmall",
    message="does not fit",
    stopped=True,
    revision="llama-12ab",
)
POSTERIOR = Posterior(
    mean=Multipliers(*(1.0 + 0.1 * place for place in range(len(Multipliers._fields)))),
    level=0.1,
    level_deviation=0.02,
    covariance=tuple(tuple(0.01 * (1 + x + 5 * y) for x in range(5)) for y in range(5)),
    noise=0.04,
    centre=(0.5, 0.6, 0.7, 0.8, 0.9),
    batch=12.0,
    excitation=0.7,
    intervals=41,
    blocks=9,
    correlation=-0.2,
    drift=0.05,
    unsteadiness=0.06,
    identified=("bandwidth", "step"),
)
EXAMPLES = (
    *(
        OFFER,
        FACTS,
        CLAIM,
        REPAIR,
        TUNED,
        CALIBRATION,
        MEASURED,
        SPEED,
        INPUTS,
        ABANDONED,
        POSTERIOR,
    ),
    *(replace(REPAIR, kind=kind) for kind in ("shorterMaxModelLen", "lowerUtilization")),
)


def default_of(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def with_defaults() -> Iterator[Any]:
    for example in EXAMPLES:
        for field in fields(example):
            if default_of(field) is not MISSING:
                yield pytest.param(example, field.name, id=f"{type(example).__name__}.{field.name}")


def told(problem: Any) -> Any:
    """Problems are compared by what they say."""
    return (type(problem), problem.field, problem.message) if problem is not None else None


def again(one: Any) -> Any:
    """Through the text of its JSON."""
    return type(one).from_json_object(json.loads(json.dumps(one.to_json_object())))


def is_same(one: Any, other: Any) -> bool:
    if isinstance(one, PlanningInputs) and told(one.model_problem) != told(other.model_problem):
        return False
    return bool(one == other)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_what_is_pinned_comes_back_as_it_was(example: Any) -> None:
    assert is_same(again(example), example)


@pytest.mark.parametrize(("example", "name"), list(with_defaults()))
def test_an_example_says_something_in_every_field(example: Any, name: str) -> None:
    (field,) = (one for one in fields(example) if one.name == name)
    assert getattr(example, name) != default_of(field)


@pytest.mark.parametrize(("example", "name"), list(with_defaults()))
def test_a_field_that_says_nothing_comes_back_as_such(example: Any, name: str) -> None:
    (field,) = (one for one in fields(example) if one.name == name)
    silent = replace(example, **{name: default_of(field)})
    assert is_same(again(silent), silent)
    assert silent.to_json_object() != example.to_json_object()
