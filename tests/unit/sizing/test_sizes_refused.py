"""Sizes that are more than there are GPUs, or that no model has, refused word for word."""

from __future__ import annotations

from typing import Any

import pytest

from unit.sizing.examples import LLAMA_8B, inputs_for, only_problem, server
from vllm_operator.sizing.plan.planner import make_plan

KNOWN: dict[str, Any] = {"product": "H100", "perNode": 8}
ASSUMED: dict[str, Any] = {"product": "H100"}
SLICE = {"product": "H100", "resourceName": "nvidia.com/mig-3g.40gb", "memoryGiB": 39}


@pytest.mark.parametrize(
    ("gpu", "nodes", "sizes", "field", "message"),
    [
        (
            KNOWN,
            1,
            {"tensor": 16},
            "tensor",
            "is 16: a node has 8 H100, and one node is looked at; at most 8 works here",
        ),
        (
            KNOWN,
            1,
            {"pipeline": 16},
            "pipeline",
            (
                "is 16, and pipeline 16 are 16 GPUs: a node has 8 H100, and one node is looked at; "
                "set it to at most 8"
            ),
        ),
        (
            KNOWN,
            1,
            {"tensor": 4, "data": 4},
            "data",
            (
                "is 4, and tensor 4 x data 4 are 16 GPUs: a node has 8 H100, and one node is "
                "looked at; set it to at most 2"
            ),
        ),
        (
            KNOWN,
            1,
            {"tensor": 2, "pipeline": 8},
            "pipeline",
            (
                "is 8, and tensor 2 x pipeline 8 are 16 GPUs: a node has 8 H100, and one node is "
                "looked at; set it to at most 4"
            ),
        ),
        (
            KNOWN,
            1,
            {"data": 32},
            "data",
            (
                "is 32, and data 32 are 32 GPUs: a node has 8 H100, and one node is looked at; set "
                "it to at most 8"
            ),
        ),
        (
            KNOWN,
            1,
            {"tensor": 3},
            "tensor",
            "is 3: 32 attention heads are not divisible by 3; vLLM accepts 1, 2, 4, 8 here",
        ),
        (
            ASSUMED,
            1,
            {"tensor": 16},
            "tensor",
            (
                "is 16: nodes of 8 H100 are assumed; set spec.gpu.perNode if they are larger; at "
                "most 8 works here"
            ),
        ),
        (
            ASSUMED,
            1,
            {"pipeline": 16},
            "pipeline",
            (
                "is 16, and pipeline 16 are 16 GPUs: nodes of 8 H100 are assumed; set "
                "spec.gpu.perNode if they are larger; set it to at most 8"
            ),
        ),
        (
            ASSUMED,
            1,
            {"tensor": 4, "data": 4},
            "data",
            (
                "is 4, and tensor 4 x data 4 are 16 GPUs: nodes of 8 H100 are assumed; set "
                "spec.gpu.perNode if they are larger; set it to at most 2"
            ),
        ),
        (
            ASSUMED,
            1,
            {"tensor": 2, "pipeline": 8},
            "pipeline",
            (
                "is 8, and tensor 2 x pipeline 8 are 16 GPUs: nodes of 8 H100 are assumed; set "
                "spec.gpu.perNode if they are larger; set it to at most 4"
            ),
        ),
        (
            ASSUMED,
            1,
            {"data": 32},
            "data",
            (
                "is 32, and data 32 are 32 GPUs: nodes of 8 H100 are assumed; set spec.gpu.perNode "
                "if they are larger; set it to at most 8"
            ),
        ),
        (
            ASSUMED,
            1,
            {"tensor": 3},
            "tensor",
            "is 3: 32 attention heads are not divisible by 3; vLLM accepts 1, 2, 4, 8 here",
        ),
        (
            SLICE,
            1,
            {"tensor": 16},
            "tensor",
            (
                "is 16: H100-MIG-3g.40gb is a slice of a GPU, and slices cannot serve one model "
                "together; at most 1 works here"
            ),
        ),
        (
            SLICE,
            1,
            {"pipeline": 16},
            "pipeline",
            (
                "is 16, and pipeline 16 are 16 GPUs: H100-MIG-3g.40gb is a slice of a GPU, and "
                "slices cannot serve one model together; set it to at most 1"
            ),
        ),
        (
            SLICE,
            1,
            {"tensor": 4, "data": 4},
            "data",
            (
                "is 4, and tensor 4 x data 4 are 16 GPUs: H100-MIG-3g.40gb is a slice of a GPU, "
                "and slices cannot serve one model together; set tensor x data to at most 1 "
                "together"
            ),
        ),
        (
            SLICE,
            1,
            {"tensor": 2, "pipeline": 8},
            "pipeline",
            (
                "is 8, and tensor 2 x pipeline 8 are 16 GPUs: H100-MIG-3g.40gb is a slice of a "
                "GPU, and slices cannot serve one model together; set tensor x pipeline to at most "
                "1 together"
            ),
        ),
        (
            SLICE,
            1,
            {"data": 32},
            "data",
            (
                "is 32, and data 32 are 32 GPUs: H100-MIG-3g.40gb is a slice of a GPU, and slices "
                "cannot serve one model together; set it to at most 1"
            ),
        ),
        (
            SLICE,
            1,
            {"tensor": 3},
            "tensor",
            "is 3: 32 attention heads are not divisible by 3; 1 work here",
        ),
        (
            KNOWN,
            2,
            {"tensor": 4, "data": 4},
            "data",
            (
                "4 data-parallel ranks would take 2 nodes, and this release runs them on one; "
                "remove the pin and set spec.replicas, or use nodes with more GPUs"
            ),
        ),
        (
            KNOWN,
            2,
            {"data": 32},
            "data",
            (
                "is 32, and data 32 are 32 GPUs: 2 nodes of 8 H100 cannot be divided evenly by it; "
                "set it to at most 8"
            ),
        ),
        (
            KNOWN,
            2,
            {"tensor": 3},
            "tensor",
            "is 3: 32 attention heads are not divisible by 3; vLLM accepts 1, 2, 4, 8 here",
        ),
    ],
)
def test_a_size_that_cannot_be_is_answered_with_what_there_is_and_what_works(
    gpu: dict[str, Any], nodes: int, sizes: dict[str, int], field: str, message: str
) -> None:
    planned = server(LLAMA_8B, gpu=gpu, parallelism=sizes)
    found = only_problem(make_plan(planned, inputs_for(planned, max_nodes=nodes)))
    assert (found[0], found[2]) == (f"spec.parallelism.{field}", message)
