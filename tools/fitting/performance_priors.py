"""What the performance model's coefficients are taken for before any run is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Prior:
    """What a coefficient is taken for before any run is looked at, and how firmly."""

    value: float
    spread: float
    """Factor that it may well be off by."""
    unit: str
    source: str
    generation: str = ""
    link: str = ""


NEW: Final = "hopper|blackwell|cdna"
FAST: Final = "nvlink|xgmi"
PRIORS: Final[Mapping[tuple[str, str, str], Prior]] = {
    (name, generation, link): Prior(value, spread, unit, source, generation, link)
    for name, generation, link, value, spread, unit, source in (
        ("compute", "", "", 0.65, 1.3, "share of the peak", ""),
        ("compute", NEW, "", 0.5, 1.3, "share of the peak", ""),
        ("narrow", "", "", 128, 1.6, "elements", ""),
        ("expert_compute", "", "", 0.8, 1.4, "factor on compute", ""),
        ("expert_skew", "", "", 1.2, 1.2, "factor on tokens", ""),
        ("expert_padding", "", "", 32, 1.5, "rows", ""),
        ("dequantized_compute", "", "", 0.8, 1.3, "factor on compute", ""),
        ("bandwidth", "", "", 0.8, 1.2, "share of the peak", ""),
        ("attention_compute", "", "", 0.4, 1.5, "share of the peak", ""),
        ("cache_bandwidth", "", "", 0.6, 1.4, "share of the peak", ""),
        ("elementwise_passes", "", "", 12, 1.6, "passes over the hidden state", ""),
        ("logit_passes", "", "", 8, 2.0, "passes over the logits", ""),
        ("step_seconds", "", "", 0.0015, 1.6, "s", ""),
        ("ranks_seconds", "", "", 0.0015, 1.6, "s", ""),
        ("kernel_seconds", "", "", 0.000003, 1.5, "s", ""),
        ("launch_seconds", "", "", 0.00003, 1.4, "s", ""),
        ("sequence_seconds", "", "", 0.000015, 1.6, "s", ""),
        ("answer_seconds", "", "", 0.00004, 1.6, "s", ""),
        ("all_reduce_seconds", "", FAST, 0.000012, 1.6, "s", ""),
        ("all_reduce_seconds", "", "", 0.00006, 1.6, "s", ""),
        ("link_efficiency", "", FAST, 0.6, 1.4, "share of the peak", ""),
        ("link_efficiency", "", "", 0.4, 1.4, "share of the peak", ""),
        ("recompute", "", "", 0.5, 2.0, "tokens an output token", ""),
        ("preempted", "", "", 0.2, 1.6, "share", ""),
        ("request_seconds", "", "", 0.003, 1.5, "s", ""),
    )
}
NO_NETWORK: Final = "no run in the data crosses a known network"
FIXED: Final[Mapping[tuple[str, str, str], Prior]] = {
    ("eager_launch_seconds", "", ""): Prior(
        0.00004, 1.0, "s", "assumed: PyTorch's launches, some of them unfused; no run is eager"
    ),
    ("network_bandwidth", "hopper|blackwell|cdna", "nvlink|xgmi"): Prior(
        50e9, 1.0, "B/s", f"NVIDIA DGX H100 datasheet: 400 Gb/s a GPU; {NO_NETWORK}"
    ),
    ("network_bandwidth", "ampere", "nvlink"): Prior(
        25e9, 1.0, "B/s", f"NVIDIA DGX A100 datasheet: 200 Gb/s a GPU; {NO_NETWORK}"
    ),
    ("network_bandwidth", "", ""): Prior(
        1.5625e9, 1.0, "B/s", f"Amazon EC2 g5.48xlarge: 100 Gb/s for eight GPUs; {NO_NETWORK}"
    ),
    ("network_seconds", "", ""): Prior(0.00002, 1.0, "s", f"assumed; {NO_NETWORK}"),
}
