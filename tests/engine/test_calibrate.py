"""The script that measures GPUs, with the real PyTorch on a CPU: two processes, small sizes."""

from __future__ import annotations

import socket

import pytest

from realengine.environments import Environment
from support.scripts import log_of
from vllm_operator import benchmark, datafiles
from vllm_operator.benchmark.calibration import Calibrated, read_log
from vllm_operator.hardware.measured import MeasuredGPU

pytestmark = pytest.mark.timeout(300)

AT = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def told(environment: Environment) -> Calibrated:
    """What the script says of this machine's processors."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {
        "device": "cpu",
        "gpus": 2,
        "sizes": [[128, 128, 128], [512, 512, 512]],
        "copies": [64 << 20],
        "reduced": 4 << 20,
        "s": 0.02,
        "port": port,
    }
    return read_log(log_of(environment, "hardware.py", given))


@pytest.fixture(scope="module")
def found(told: Calibrated) -> MeasuredGPU:
    return told.of("a-cpu", AT, "image")


def test_its_log_is_a_measurement(found: MeasuredGPU) -> None:
    assert found.gpus == 2
    assert found.software.startswith("PyTorch 2.")
    # A processor of any year: between a hundredth of and a thousand GFLOP/s, and likewise GB/s.
    assert 1e7 < found.flops_16bit < 1e13
    assert 1e7 < found.copy_bandwidth < 1e13


def test_two_processes_tell_how_fast_they_are_joined(found: MeasuredGPU) -> None:
    assert found.all_reduce_bandwidth is not None
    assert found.all_reduce_seconds is not None
    assert found.all_reduce_bandwidth < found.copy_bandwidth
    assert 1e-6 < found.all_reduce_seconds < 1


def test_a_product_that_pytorch_lacks_is_noted_and_the_rest_is_measured(
    environment: Environment,
) -> None:
    given = {"device": "cpu", "gpus": 1, "sizes": [[64, 64, 3]], "copies": [1 << 20], "s": 0.01}
    text = datafiles.text(benchmark.__name__, "scripts/hardware.py")
    lacking = text.replace("torch._scaled_mm(", "torch._no_such_product(")
    told = read_log(log_of(environment, "hardware.py", given, script=lacking))
    assert told.of("a-cpu", AT, "image").flops_fp8 is None
    assert any("_no_such_product" in note for note in told.notes)
