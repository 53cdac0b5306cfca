"""Which GPUs are measured, and how measurements are shown and read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from unit.sizing.examples import offer
from vllm_operator.cli.calibrate import named, table
from vllm_operator.cli.documents import read_measured_gpus
from vllm_operator.cli.main import main
from vllm_operator.errors import InputError
from vllm_operator.hardware.measured import MeasuredGPU

H100 = offer("NVIDIA-H100-80GB-HBM3", 79)
L4 = offer("NVIDIA-L4", 22)
SLICE = offer("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", 9)
MEASURED = MeasuredGPU("NVIDIA-H100-80GB-HBM3", "2026-01-01T00:00:00Z", 791.2e12, 2.68e12)
SERVER = """
apiVersion: vllm-operator.io/v1alpha1
kind: VLLMServer
metadata: {name: chat}
spec: {model: {id: Qwen/Qwen3-8B}, gpu: {product: NVIDIA-H100-80GB-HBM3}}
"""


def test_all_whole_gpus_are_measured_unless_some_are_named() -> None:
    assert named([H100, L4, SLICE], []) == [H100, L4]
    assert named([H100, L4, SLICE], ["l4"]) == [L4]


def test_a_family_means_each_of_its_products_once() -> None:
    pcie = offer("NVIDIA-H100-PCIe", 79)
    assert named([H100, L4, pcie], ["H100", "NVIDIA-H100-PCIe"]) == [H100, pcie]


@pytest.mark.parametrize("product", ["A100", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"])
def test_a_product_that_no_node_has_whole_is_refused_with_those_that_are_there(
    product: str,
) -> None:
    with pytest.raises(InputError, match="the nodes offer NVIDIA-L4"):
        named([L4, SLICE], [product])


def test_nodes_without_whole_gpus_are_told() -> None:
    with pytest.raises(InputError, match="no node offers a whole GPU"):
        named([SLICE], [])


def test_each_figure_stands_beside_its_share_of_the_datasheet() -> None:
    console = Console(width=140)
    with console.capture() as shown:
        console.print(table([MEASURED]))
    assert "791 (80%)" in shown.get()
    assert "2,680 (80%)" in shown.get()


def test_a_plan_takes_measured_gpus_from_a_file(tmp_path: Path) -> None:
    manifest, measured = tmp_path / "server.yaml", tmp_path / "measured.json"
    manifest.write_text(SERVER)
    measured.write_text(json.dumps([MEASURED.to_json_object()]))
    arguments = ["plan", "-f", str(manifest), "--offline"]
    plain = CliRunner().invoke(main, arguments)
    found = CliRunner().invoke(main, [*arguments, "--measured", str(measured)])
    assert found.exit_code == plain.exit_code == 0, found.output
    told = "of a GPU measured 2026-01-01"
    assert told in " ".join(found.output.split())
    assert told not in " ".join(plain.output.split())


@pytest.mark.parametrize("text", ['[{"product": "NVIDIA-L4"}]', "[1]", "hello"])
def test_a_file_of_something_else_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "measured.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"measured\.json: is not what .* prints"):
        read_measured_gpus(str(path))
