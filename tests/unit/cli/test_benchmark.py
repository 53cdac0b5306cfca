"""The command line of benchmarks, as far as it needs no cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click import Command, Group
from click.testing import CliRunner
from click.testing import Result as Ran
from rich.console import Console

from unit.benchmark.support import measured, result
from vllm_operator.benchmark.results import MARK, Result
from vllm_operator.cli.benchmark_view import print_list
from vllm_operator.cli.main import main
from vllm_operator.errors import InputError


def ran(*arguments: str) -> Ran:
    return CliRunner().invoke(main, ["benchmark", *arguments], env={"COLUMNS": "140"})


def saved(folder: Path, name: str, *scales: float) -> str:
    found: Result = result(name=name, points=[measured(*scales)])
    path = folder / f"{name}.json"
    path.write_text(json.dumps(found.to_json_object()))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return saved(tmp_path, "slow", 1.0, 1.01, 0.99), saved(tmp_path, "fast", 1.3, 1.31, 1.29)


def test_results_in_files_are_compared_without_a_cluster(files: tuple[str, str]) -> None:
    found = ran("compare", *files)
    assert found.exit_code == 0, found.output
    assert "qwen/fast is better: output tokens/s +30.0%" in found.output
    assert "plan: no difference" in found.output


@pytest.mark.parametrize(
    "words", [("run", "qwen"), ("qwen",), ("list",), ("show", "qwen"), ("compare", "qwen", "b/2")]
)
@pytest.mark.parametrize(("named", "asked"), [((), "models"), (("-n", "team"), "team")])
def test_the_namespace_is_that_of_the_current_context_unless_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    named: tuple[str, ...],
    asked: str,
) -> None:
    context = {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "models"}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [context],
        "clusters": [{"name": "c", "cluster": {}}],
        "users": [{"name": "u", "user": {}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))

    def nothing(namespace: str, _question: object) -> None:
        raise InputError(f"of {namespace}")

    monkeypatch.setattr("vllm_operator.cli.benchmark.asked", nothing)
    found = ran(*words, *named)
    assert (found.exit_code, found.output) == (2, f"Error: of {asked}\n")


def commands(group: Group, *before: str) -> Iterator[tuple[str, Command]]:
    for name, one in group.commands.items():
        if isinstance(one, Group):
            yield from commands(one, *before, name)
        else:
            yield " ".join((*before, name)), one


def test_what_asks_of_a_server_has_no_namespace_of_its_own() -> None:
    defaults = {
        name: one.default
        for name, command in commands(main)
        for one in command.params
        if one.name == "namespace"
    }
    assert {"benchmark run", "check", "explain", "top"} <= set(defaults)
    own = {name: default for name, default in defaults.items() if default is not None}
    # Where the operator runs, as it reads there what was measured.
    assert own == {"calibrate": "vllm-operator"}


def test_a_comparison_is_json_for_scripts(files: tuple[str, str]) -> None:
    document = json.loads(ran("compare", *files, "-o", "json").output)
    assert document["verdict"].startswith("qwen/fast is better")


def test_the_picture_has_both_results_in_three_panels(
    files: tuple[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "change.svg"
    assert ran("compare", *files, "--svg", str(path)).exit_code == 0
    root = ET.parse(path).getroot()
    bars = [one.get("fill") for one in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert bars.count("#6b7280") == 3
    assert bars.count("#1f5fa8") == 3
    (words,) = root.iter("{http://www.w3.org/2000/svg}desc")
    assert (words.text or "").startswith("qwen/fast is better")


def test_the_log_of_a_job_is_a_result(tmp_path: Path) -> None:
    begun = result(points=[measured()]).to_json_object()
    figures = dict(measured(1.0).runs[0])
    lines = [
        {"begin": begun},
        {"run": {"point": 0, "repeat": 0, "figures": figures}},
        {"end": True},
    ]
    path = tmp_path / "job.log"
    path.write_text("INFO\n" + "".join(f"{MARK}{json.dumps(one)}\n" for one in lines))
    found = ran("show", str(path))
    assert found.exit_code == 0, found.output
    assert "8 at once, 1 run of 40 requests" in found.output
    assert "one run says nothing of noise" in found.output


def test_half_a_log_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    path.write_text(f"{MARK}{json.dumps({'state': 'imports vLLM'})}\n")
    found = ran("show", str(path))
    assert found.exit_code == 2
    assert "nor the whole log" in found.output


@pytest.mark.parametrize("text", ["1,x", "0,1"])
def test_a_sweep_is_a_list_of_numbers(text: str) -> None:
    assert "--sweep" in ran("qwen", "--sweep", text).output


def test_any_other_word_is_a_server_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    found = ran("qwen")
    assert found.exit_code == 2
    assert "the cluster cannot be asked" in found.output


def test_without_a_word_it_tells_what_there_is() -> None:
    assert "compare" in ran().output


def test_the_name_of_a_result_is_never_cut_in_a_list() -> None:
    told = StringIO()
    print_list(Console(width=70, file=told), [result(name="20260101-100000")])
    assert "qwen/20260101-100000" in told.getvalue()


def test_a_list_shows_of_each_result_its_fastest_load() -> None:
    points = [measured(1.0, concurrency=4), measured(3.0, concurrency=16), measured(2.0)]
    told = StringIO()
    print_list(Console(width=160, file=told), [result(name="20260101-100000", points=points)])
    (row,) = [line for line in told.getvalue().splitlines() if "20260101" in line]
    assert "240" in row
    assert "16 at once" in row


def test_a_result_says_how_far_its_prediction_was_off_what_was_measured(tmp_path: Path) -> None:
    one = replace(
        measured(1.0),
        predicted={
            "output_throughput": 100.0,
            "mean_ttft_ms": 40.0,
            "mean_tpot_ms": 10.0,
            "mean_itl_ms": None,
        },
    )
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result(points=[one]).to_json_object()))
    lines = [" ".join(line.split()) for line in ran("show", str(path)).output.splitlines()]
    assert [line.split(" ")[-2:] for line in lines if line.endswith("%")] == [
        ["100", "+25%"],
        ["40", "-20%"],
        ["10", "+0%"],
    ]
