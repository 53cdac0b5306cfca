"""Which GPUs are measured, and how measurements are shown and read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from unit.sizing.examples import offer
from vllm_operator.cli import cluster
from vllm_operator.cli.calibrate import GPUs, named, runnable, table
from vllm_operator.cli.documents import read_measured_gpus
from vllm_operator.cli.main import main
from vllm_operator.errors import ApiError, InputError, TemporaryFailure
from vllm_operator.hardware.measured import MeasuredGPU

H100 = offer("NVIDIA-H100-80GB-HBM3", 79)
L4 = offer("NVIDIA-L4", 22)
SLICE = offer("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", 9)
MI300X = replace(offer("AMD_Instinct_MI300X_OAM", 191), resource_name="amd.com/gpu")
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


FIGURES = {"flops_16bit": 1e14, "copy_bandwidth": 2e11, "software": "PyTorch"}
LOG = f"vllm-operator-hardware {json.dumps({'measured': FIGURES})}"


def calibrate(
    monkeypatch: pytest.MonkeyPatch,
    ends: Mapping[str, Exception | str],
    *arguments: str,
    keeps: Exception | None = None,
) -> Result:
    """Of a cluster whose nodes offer H100, L4 and MI300X, and whose Jobs end so by product."""

    class Played(GPUs):
        async def offers(self) -> tuple[Any, ...]:
            return (H100, L4, MI300X)

        async def begin(self, job: dict[str, Any]) -> None:
            (term, *_) = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][
                "requiredDuringSchedulingIgnoredDuringExecution"
            ]["nodeSelectorTerms"]
            jobs[job["metadata"]["name"]] = term["matchExpressions"][0]["values"][0]

        async def ended(self, job: str, _watcher: Any) -> str:
            end = ends.get(jobs[job], LOG)
            if isinstance(end, Exception):
                raise end
            return end

        async def keep_gpu(self, _found: MeasuredGPU) -> None:
            if keeps is not None:
                raise keeps

    @asynccontextmanager
    async def connected(_kind: Any, _remedy: str) -> AsyncIterator[Any]:
        yield Played(None, "vllm-operator")

    jobs: dict[str, str] = {}
    monkeypatch.setattr(cluster, "connected", connected)
    return CliRunner().invoke(main, ["calibrate", *arguments], env={"COLUMNS": "140"})


@pytest.mark.parametrize(
    "problem",
    [
        InputError("you may not patch configmaps"),
        ApiError(500, "InternalError", "etcd is away"),
        TemporaryFailure("the API server is away"),
    ],
)
def test_figures_that_cannot_be_kept_are_printed(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    found = calibrate(monkeypatch, {}, "L4", keeps=problem)
    assert found.exit_code == 2
    assert "NVIDIA-L4" in found.stdout
    assert f"NVIDIA-L4 was measured, and the cluster does not keep it: {problem}" in found.stderr


@pytest.mark.parametrize(
    "problem",
    [
        InputError("the Job failed"),
        ApiError(500, "InternalError", "etcd is away"),
        TemporaryFailure("the API server is away"),
    ],
)
def test_one_product_that_fails_leaves_the_figures_of_the_others(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    found = calibrate(monkeypatch, {H100.product: problem}, "L4", "H100", "-o", "json")
    assert found.exit_code == 2
    assert [one["product"] for one in json.loads(found.stdout)] == ["NVIDIA-L4"]
    assert f"{H100.product}: {problem}" in found.stderr


def test_gpus_that_the_image_is_not_built_for_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = calibrate(monkeypatch, {}, "-o", "json")
    assert found.exit_code == 0, found.output
    assert {one["product"] for one in json.loads(found.stdout)} == {H100.product, L4.product}
    assert f"{MI300X.product} is not measured" in found.stderr


def test_gpus_that_the_image_is_not_built_for_are_refused_where_they_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = calibrate(monkeypatch, {}, MI300X.product, "L4")
    assert found.exit_code == 2
    assert f"calibrate {MI300X.product} --image vllm/vllm-openai-rocm:v" in found.stderr


def test_an_image_is_tried_on_what_it_is_built_for_or_where_nobody_knows() -> None:
    assert runnable([L4, MI300X], "vllm/vllm-openai-rocm:v0.32.0")[0] == [MI300X]
    assert runnable([L4, MI300X], "example.com/ours:1")[0] == [L4, MI300X]
