"""Plays Python with a PyTorch that sees a GPU: prints what the measuring script would."""

import json

FIGURES = {
    "flops_16bit": 50.0e12,
    "flops_fp8": None,
    "copy_bandwidth": 0.2e12,
    "gpus": 1,
    "software": "PyTorch 2.9.1",
    "all_reduce_bandwidth": None,
    "all_reduce_seconds": None,
}
for record in (
    {"state": "measures NVIDIA L4"},
    {"note": "fp8 [4096, 4096, 4096]: RuntimeError: played"},
    {"measured": FIGURES, "device": "NVIDIA L4"},
):
    print("vllm-operator-hardware " + json.dumps(record), flush=True)  # noqa: T201
