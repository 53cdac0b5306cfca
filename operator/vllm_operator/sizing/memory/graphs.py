"""CUDA graphs: one for each captured number of tokens, and what each of them takes."""

from __future__ import annotations

from typing import Final

from vllm_operator.api.quantity import GIBIBYTE
from vllm_operator.engine.devices import Capability
from vllm_operator.engine.graphs import largest_graph
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version
from vllm_operator.models.architecture import Architecture
from vllm_operator.sizing.split.parallelism import Parallelism

from .coefficients import Bytes, coefficient, gibibytes
from .load import Load

SMALLEST: Final = (1, 2, 4)
STEP: Final = 8
COARSE_FROM: Final = 256
COARSE_STEP: Final = 16


def captured_sizes(version: Version, load: Load, capability: Capability | None = None) -> int:
    """How many numbers of tokens are captured on a GPU unless the command says which.

    1, 2, 4, then every eighth, and from 0.11.1 on every sixteenth from 256 on, up to twice what
    all sequences decode at once. Source: vllm 0.8.5, 0.12.0, 0.20.0 and 0.30.0 ``config/vllm.py``,
    ``_set_cudagraph_sizes``.
    """
    decoded = 1 + load.drafts if does("captures-drafts", version) else 1
    most = largest_graph(version, capability)
    largest = min(2 * load.max_num_seqs * decoded, load.max_num_batched_tokens, most)
    sizes = [one for one in SMALLEST if one <= largest]
    if does("captures-coarsely", version):
        sizes += range(STEP, min(largest + 1, COARSE_FROM), STEP)
        sizes += range(COARSE_FROM, largest + 1, COARSE_STEP)
    else:
        sizes += range(STEP, largest + 1, STEP)
    return len(sizes)


def graph_bytes(
    architecture: Architecture,
    version: Version,
    load: Load,
    parallelism: Parallelism,
    capability: Capability | None = None,
) -> Bytes:
    """Bytes of all CUDA graphs of a rank: of each captured size and layer, and once more where a
    loaded draft verifies its tokens in graphs of their own."""
    ranks = parallelism.tensor * parallelism.pipeline
    base, each = gibibytes("graphs_base", version, ranks), coefficient("graphs", version, ranks)
    layers = -(-architecture.layers // parallelism.pipeline)
    times = captured_sizes(version, load, capability) * layers * GIBIBYTE
    if architecture.speculator is not None:
        times *= 2
    return Bytes(
        base.expected + int(times * each.expected),
        base.high + int(times * each.high),
    )
