"""The arguments of a replica on several nodes, and what such a replica cannot have.

From 0.11.1 on vLLM's own executor of processes spans nodes (``--nnodes``, ``--node-rank``,
``--master-addr``; ``config/parallel.py``); before, Ray does, which the official images of those
versions hold (``requirements/cuda.txt``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vllm_operator.api.plan import Flag
from vllm_operator.engine.defaults import has_flag
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.layout.search import Layout

NODES_FLAG: Final = "--nnodes"
RANK_FLAG: Final = "--node-rank"
LEADER_ADDRESS: Final = "$(LWS_LEADER_ADDRESS)"
"""Kubernetes puts in what LeaderWorkerSet sets in each container."""


def spans_nodes(version: Version) -> bool:
    """Whether that version spans nodes by itself; else Ray does."""
    return has_flag(NODES_FLAG, version)


def node_flags(asked: Asked, layout: Layout) -> Iterator[Flag]:
    """The arguments of the first node; none for a replica on one."""
    nodes = layout.division.nodes
    if nodes == 1:
        return
    backend = "--distributed-executor-backend"
    if not spans_nodes(asked.version):
        reason = f"{nodes} nodes, which vLLM {asked.version} spans with Ray alone"
        yield Flag(name=backend, value="ray", reason=reason)
        return
    yield Flag(name=backend, value="mp", reason=f"{nodes} nodes, without Ray")
    yield Flag(name=NODES_FLAG, value=str(nodes), reason="nodes of one replica")
    yield Flag(name=RANK_FLAG, value="0", reason="the first node; each other has its own number")
    yield Flag(name="--master-addr", value=LEADER_ADDRESS, reason="the first node of the group")


def ranks_problem(layout: Layout) -> IllegalPin | None:
    """Why data-parallel ranks cannot be spread over nodes."""
    ranks, nodes = layout.parallelism.data, layout.division.nodes
    if nodes == 1 or ranks == 1:
        return None
    return IllegalPin(
        "spec.parallelism.data",
        f"{ranks} data-parallel ranks would take {nodes} nodes, and this release runs them on one; "
        "remove the pin and set spec.replicas, or use nodes with more GPUs",
    )
