"""How large steps are that vLLM captures CUDA graphs of."""

from __future__ import annotations

from typing import Final, NamedTuple

from .devices import Capability
from .tables import does
from .versions import Version

LARGEST: Final = 512
LARGEST_ON_BLACKWELL: Final = 1024
BLACKWELL_MAJOR: Final = 10
"""Of the compute capabilities of B200, GB200, B300 and GB300; not of cards and of GB10, whose are
12.0 and 12.1."""


PER_SEQUENCE: Final = 2
"""Times ``--max-num-seqs``, up to which steps have graphs (0.32.0 ``config/vllm.py``,
``_set_cudagraph_sizes``)."""


class Graphs(NamedTuple):
    """Tokens of the largest graph of a server, whatever its sequences are."""

    largest: int
    """What vLLM captures at most by itself, or is told to capture."""
    stated: bool = False
    """Whether the command says so: ``--max-num-seqs`` then asks for none."""

    def captured(self, max_num_seqs: int, width: int = 1) -> int:
        """Tokens of the largest with so many sequences, of ``width`` tokens each in a step."""
        wanted = PER_SEQUENCE * max_num_seqs * width
        return self.largest if self.stated else min(self.largest, wanted)


USUAL: Final = Graphs(LARGEST)
"""On a GPU of which nothing is known."""


def graphs(version: Version, capability: Capability | None, stated: int | None) -> Graphs:
    """The graphs on a GPU of that compute capability; ``stated`` is what a command says of the
    largest, None where it leaves that to vLLM."""
    if stated is not None:
        return Graphs(stated, stated=True)
    return Graphs(largest_graph(version, capability))


def largest_graph(version: Version, capability: Capability | None) -> int:
    """Tokens of the largest graph on a GPU of that compute capability, None where it is not known.

    It is smaller where twice ``--max-num-seqs`` or ``--max-num-batched-tokens`` is. Source: vllm
    0.8.5 to 0.33.0 ``config/vllm.py``, ``_set_cudagraph_sizes``; vllm-project/vllm#49390.
    """
    datacentre = capability is not None and capability[0] == BLACKWELL_MAJOR
    if datacentre and does("captures-more-on-blackwell", version):
        return LARGEST_ON_BLACKWELL
    return LARGEST
