"""The arguments that divide a server over GPUs, with their reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from vllm_operator.api.plan import Flag
from vllm_operator.sizing.asked.specification import DATA_FLAG, EXPERT_FLAG, Asked
from vllm_operator.sizing.layout.search import Layout
from vllm_operator.sizing.split.parallelism import illegal_because

TENSOR_FLAG: Final = "--tensor-parallel-size"
PIPELINE_FLAG: Final = "--pipeline-parallel-size"


def parallel_flags(asked: Asked, layout: Layout) -> Iterator[Flag]:
    """``--tensor-parallel-size`` always, the others where they differ from vLLM's defaults."""
    split, pins = layout.parallelism, asked.pins
    yield Flag(
        name=TENSOR_FLAG, value=str(split.tensor), reason=_tensor_reason(asked, layout)[:512]
    )
    if split.pipeline > 1:
        pinned = "pinned in spec.parallelism.pipeline"
        reason = pinned if pins.pipeline else _pipeline_reason(asked, layout)
        yield Flag(name=PIPELINE_FLAG, value=str(split.pipeline), reason=reason[:512])
    if split.data > 1:
        yield Flag(name=DATA_FLAG, value=str(split.data), reason="pinned in spec.parallelism.data")
    if split.expert:
        yield Flag(name=EXPERT_FLAG, reason=_expert_reason(asked, layout)[:512])


def _held(asked: Asked, layout: Layout) -> str:
    """What the GPUs have to hold."""
    whole = "one whole request" if layout.whole_context else "the longest requests that fit"
    load = asked.load
    if load.concurrency is None:
        held = f"the weights and {whole}"
    else:
        held = f"the weights, {whole} and {load.concurrency} requests of {load.request} at once"
    ranks = layout.parallelism.data
    return held if ranks == 1 else f"{held} on each of {ranks} data-parallel ranks"


def _tensor_reason(asked: Asked, layout: Layout) -> str:
    split, nodes = layout.parallelism, layout.division.nodes
    product = layout.gpu.offer.product
    if asked.pins.tensor is not None:
        return "pinned in spec.parallelism.tensor"
    if nodes > 1 and split.tensor > layout.gpu.largest_world:
        reason = f"over {nodes} nodes: no pipeline of stages inside nodes is legal"
    elif nodes > 1:
        stages = split.pipeline * split.data // nodes
        filled = "fills a node" if stages == 1 else f"{stages} times fills a node"
        reason = f"the largest size that vLLM accepts and that {filled} of {product}"
    elif layout.hastened:
        reason = f"more {product} than are needed: answers are faster (spec.workload.profile)"
    elif split.pipeline > 1 and asked.pins.pipeline is None:
        reason = f"the largest size that vLLM accepts for {layout.division.gpus} {product}"
    else:
        reason = f"the fewest {product} that hold {_held(asked, layout)}"
    if not layout.gpu.per_node_known:
        reason += f"; nodes of {layout.gpu.offer.per_node} are assumed, set spec.gpu.perNode"
    return reason


def _pipeline_reason(asked: Asked, layout: Layout) -> str:
    nodes, gpus = layout.division.nodes, layout.division.gpus
    product = layout.gpu.offer.product
    if nodes > 1:
        return f"{nodes} nodes are the fewest that hold {_held(asked, layout)}"
    pin = asked.pins.tensor
    other = "no tensor-parallel size that vLLM accepts does alone"
    if pin is not None:
        other = f"spec.parallelism.tensor is pinned to {pin}"
    return f"{gpus} {product} are the fewest that hold {_held(asked, layout)}, and {other}"


def _expert_reason(asked: Asked, layout: Layout) -> str:
    if asked.pins.expert:
        return "pinned in spec.parallelism.expert"
    why = illegal_because(asked.architecture, replace(layout.parallelism, expert=False))
    return f"whole experts on each GPU: {why}"
