"""What hardware and vLLM reach of a datasheet's figures: ``coefficients.csv``.

Fitted by ``tools/fitting/fit_performance.py``, but for the rows whose source says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache

from vllm_operator import datafiles
from vllm_operator.engine.tables import holds
from vllm_operator.engine.versions import Version


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What hardware and vLLM reach; ``coefficients.csv``."""

    compute: float
    """Share of the peak arithmetic in dense matrix multiplications."""
    narrow: float
    """Elements by which a matrix's narrower side is short of full arithmetic: a side of as many
    reaches half of ``compute``."""
    expert_compute: float
    """The same for grouped multiplications of routed experts, as a factor on ``compute``."""
    expert_skew: float
    """Tokens of the fullest rank over those that even routing would give it, with whole experts on
    each rank."""
    expert_padding: float
    """Rows that a grouped multiplication computes in vain for each expert: half a tile."""
    dequantized_compute: float
    """Factor where weights are stored in fewer bits than they are multiplied in."""
    bandwidth: float
    """Share of the peak memory bandwidth that reading weights reaches."""
    attention_compute: float
    """Share of the peak 16-bit arithmetic in the attention of prompts."""
    cache_bandwidth: float
    """Share of the peak memory bandwidth that reading the KV cache reaches."""
    elementwise_passes: float
    """Times that a layer reads or writes the hidden state outside its multiplications."""
    logit_passes: float
    """Times that the sampler reads or writes the float32 logits: gathering, penalties and
    temperature, sorting for top-k and top-p, softmax (vllm 0.33.0 ``v1/sample``)."""
    step_seconds: float
    """Of every step of a stage: kernel launches, input preparation, synchronisation."""
    sequence_seconds: float
    """The scheduler's and the model runner's work for each sequence of a step."""
    answer_seconds: float
    """The API server's work for each token that it sends; it works beside the engine."""
    ranks_seconds: float
    """Of every step of a stage where the engine has several ranks: handing out work between
    processes."""
    kernel_seconds: float
    """Of every kernel in a CUDA graph, however little it has to do."""
    launch_seconds: float
    """Of launching a kernel that is in no CUDA graph: see ``kernels.launches_of``."""
    eager_launch_seconds: float
    """The same where nothing is compiled."""
    all_reduce_seconds: float
    """Latency of one all-reduce, or of handing one tensor over."""
    link_efficiency: float
    """Share of a link's or the network's bandwidth that an all-reduce reaches."""
    network_bandwidth: float
    """Bytes per second and direction that one GPU has of the network between nodes."""
    network_seconds: float
    """Latency that a message between nodes adds."""
    recompute: float
    """Prompt tokens computed again after preemption, for each output token, when the KV cache is
    what limits concurrency."""
    preempted: float
    """Share of a request's tokens, per output token of its length, that it waits for again after
    preemption, when the KV cache is what limits concurrency."""
    request_seconds: float
    """The API server's work for each request; it takes one after the other."""


def fingerprint() -> str:
    """Hash of the coefficients: an estimate made with others may come out differently."""
    return datafiles.fingerprint(__package__, "coefficients.csv")


@lru_cache(maxsize=256)
def coefficients(version: Version, generation: str, link: str) -> Coefficients:
    """The figures for a version, a GPU generation and what joins the GPUs."""
    rows = datafiles.rows(__package__, "coefficients.csv")
    return choose(
        (
            (row["name"], row["generation"], row["link"], float(row["value"]))
            for row in rows
            if holds(row, version)
        ),
        generation,
        link,
    )


def choose(rows: Iterable[tuple[str, str, str, float]], generation: str, link: str) -> Coefficients:
    """The coefficients of rows of name, generations, links and value that hold for a GPU.

    Where several rows name a coefficient, the one that says most about the hardware holds.
    """
    chosen: dict[str, tuple[int, float]] = {}
    for name, generations, links, value in rows:
        if generations and generation not in generations.split("|"):
            continue
        if links and link not in links.split("|"):
            continue
        rank = bool(generations) + bool(links)
        if rank >= chosen.get(name, (-1, 0.0))[0]:
            chosen[name] = (rank, value)
    return Coefficients(**{one.name: chosen[one.name][1] for one in fields(Coefficients)})
