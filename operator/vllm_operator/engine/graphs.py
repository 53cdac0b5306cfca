"""The largest CUDA graph that vLLM captures unless a command says another."""

from __future__ import annotations

from typing import Final

from .devices import Capability
from .tables import does
from .versions import Version

LARGEST: Final = 512
LARGEST_ON_BLACKWELL: Final = 1024
BLACKWELL_MAJOR: Final = 10
"""Of the compute capabilities of B200, GB200, B300 and GB300; not of cards and of GB10, whose are
12.0 and 12.1."""


def largest_graph(version: Version, capability: Capability | None) -> int:
    """Tokens of the largest graph on a GPU of that compute capability, None where it is not known.

    It is smaller where twice ``--max-num-seqs`` or ``--max-num-batched-tokens`` is. Source: vllm
    0.8.5 to 0.33.0 ``config/vllm.py``, ``_set_cudagraph_sizes``; vllm-project/vllm#49390.
    """
    datacentre = capability is not None and capability[0] == BLACKWELL_MAJOR
    if datacentre and does("captures-more-on-blackwell", version):
        return LARGEST_ON_BLACKWELL
    return LARGEST
