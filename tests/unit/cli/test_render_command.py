"""``vllm-operator render``: for a cluster, or one server for one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from unit.sizing.examples import H100
from vllm_operator.cli.render import TARGETS, render_command


def server(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMServer",
        "metadata": {"name": name},
        "spec": {"model": {"id": "Qwen/Qwen3-4B"}, "gpu": H100, **spec},
    }


ONE, TWO = server("one"), server("two")


@pytest.fixture
def render(tmp_path: Path):
    def run(*documents: dict[str, Any], options: tuple[str, ...] = ()) -> Result:
        path = tmp_path / "manifest.yaml"
        path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
        return CliRunner().invoke(render_command, ["-f", str(path), "--offline", *options])

    return run


def elsewhere(target: str, *more: str) -> tuple[str, ...]:
    return ("--target", target, *more)


def test_objects_of_a_cluster_are_what_is_printed_without_a_target(render) -> None:
    assert render(ONE, TWO).stdout == render(ONE, TWO, options=elsewhere("kubernetes")).stdout
    kinds = [one["kind"] for one in yaml.safe_load_all(render(ONE, TWO).stdout)]
    assert kinds == ["Deployment", "Service"] * 2


def test_one_of_several_servers_can_be_chosen(render) -> None:
    printed = render(ONE, TWO, options=("--server", "two")).stdout
    assert {one["metadata"]["name"] for one in yaml.safe_load_all(printed)} == {"two"}


@pytest.mark.parametrize("target", [one for one in TARGETS if one != "kubernetes"])
def test_a_target_is_printed(render, target: str) -> None:
    result = render(ONE, options=elsewhere(target))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "one: Qwen/Qwen3-4B by vLLM" in result.stdout


def test_several_servers_at_once_are_refused_elsewhere(render) -> None:
    result = render(ONE, TWO, options=elsewhere("compose"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: one server at a time is rendered elsewhere than in Kubernetes, and there are 2: "
        "one, two; choose one by --server\n"
    )
    assert render(ONE, TWO, options=elsewhere("compose", "--server", "two")).exit_code == 0


def test_a_server_that_the_file_does_not_have_is_named(render) -> None:
    result = render(ONE, TWO, options=("--server", "three"))
    assert result.exit_code == 2
    assert result.stderr == "Error: --server: there is no three among one, two\n"


def test_gpus_are_no_choice_in_a_cluster(render) -> None:
    result = render(ONE, options=("--devices", "1"))
    assert result.exit_code == 2
    assert "the device plugin chooses" in result.stderr


def test_gpus_are_chosen_elsewhere(render) -> None:
    result = render(ONE, options=elsewhere("shell", "--devices", "3"))
    assert "${CUDA_VISIBLE_DEVICES:-3}" in result.stdout


def test_what_is_refused_is_told_by_its_field_and_nothing_is_printed(render) -> None:
    side = {"containers": [{"name": "side", "image": "side:1"}]}
    result = render(server("one", pod=side), options=elsewhere("shell"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("one: spec.pod.containers: shell runs the engine alone;")


def test_what_cannot_be_planned_is_told_alike_for_every_target(render) -> None:
    bad = server("one", engine={"maxModelLen": 10_000_000})
    told = {render(bad, options=elsewhere(target)).stderr for target in TARGETS}
    assert len(told) == 1
    assert render(bad, options=elsewhere("compose")).exit_code == 1


def test_the_image_s_own_user_runs_elsewhere_unless_pods_are_to_be_like(render) -> None:
    assert "user:" not in render(ONE, options=elsewhere("compose")).stdout
    fixed = render(ONE, options=elsewhere("compose", "--pod-identity", "Fixed")).stdout
    assert 'user: "65532:65532"' in fixed
