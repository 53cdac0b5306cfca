"""The guides' table: every row, and commands that exist; those that need no cluster are run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from docs.recipes import RECIPES, predicted
from docs.support import DOCS, ROOT, section
from vllm_operator.cli.main import main
from vllm_operator.engine.tables import rows as engine_rows

PAGE = DOCS / "guides.md"
NUMBERS = {"A": 27, "B": 59, "C": 19, "D": 6}
PLAN = ["plan", "--offline"]
USUAL = ["--gpu", "H100", "--gpus-per-node", "8"]
OTHERS = {"kubectl", "helm", "make"}
GONE = {"vllm:gpu_cache_usage_perc", "vllm:time_per_output_token"}
FIELDS = (
    ("`spec.engine.quantization: squeezellm`", {"quantization": "squeezellm"}),
    ("`spec.engine.blockSize: 8`", {"blockSize": 8}),
    ("`spec.engine.image: vllm/vllm-openai:latest`", {"image": "vllm/vllm-openai:latest"}),
)


def rows() -> dict[str, list[str]]:
    """The cells of each row of the four tables, by its number."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if re.fullmatch(r"[ABCD]\d+", cells[0]):
            assert cells[0] not in found
            found[cells[0]] = cells
    return found


ROWS = rows()
SHOWN = {number: re.findall(r"`([^`]+)`", cells[3])[0] for number, cells in ROWS.items()}


def words(command: str) -> list[str]:
    """A command's words; of ``plan`` what it stands for."""
    found = shlex.split(command)
    if found[0] != "plan":
        return found
    path = ROOT / found[found.index("-f") + 1]
    named = {"--gpu", "--nodes"} & set(found) or "product:" in path.read_text()
    return ["vllm-operator", *PLAN, *found[1:], *([] if named else USUAL)]


def test_every_row_of_the_guides_is_there_in_order() -> None:
    expected = [f"{guide}{one + 1}" for guide, count in NUMBERS.items() for one in range(count)]
    assert list(ROWS) == expected


@pytest.mark.parametrize("number", ROWS)
def test_a_row_says_what_the_guides_say_what_is_here_and_what_shows_it(number: str) -> None:
    cells = ROWS[number]
    assert len(cells) == 4
    assert all(cells)
    assert "planned" not in cells[3]
    assert not re.search(r"\b(?:not (?:there|yet|supported|implemented)|missing)\b", cells[2])


def accepted(command: click.Command, arguments: list[str]) -> None:
    """Raises where the command line's parser does not take them, its groups' commands included."""
    with command.make_context("vllm-operator", list(arguments)) as context:
        if isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            _, found, left = command.resolve_command(context, rest)
            assert found is not None
            accepted(found, left)


@pytest.mark.parametrize("number", SHOWN)
def test_the_command_of_a_row_exists(number: str) -> None:
    program, *arguments = words(SHOWN[number])
    if program == "vllm-operator":
        accepted(main, arguments)
        return
    assert program in OTHERS
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if program == "helm":
        assert (ROOT / arguments[1] / "Chart.yaml").exists()
    for argument in arguments:
        if argument.startswith("examples/"):
            assert (ROOT / argument).exists()


FIELDS_ASKED = sorted(
    {command.split()[2] for command in SHOWN.values() if command.startswith("kubectl explain")}
)


@pytest.mark.parametrize("path", FIELDS_ASKED)
def test_a_field_that_a_row_explains_is_one(path: str) -> None:
    assert (
        f"`{path.removeprefix('vllmservers.')}`"
        in (DOCS / "reference" / "vllmserver.md").read_text()
    )


RUN = {
    command: words(command)[1:]
    for command in dict.fromkeys(SHOWN.values())
    if words(command)[0] == "vllm-operator" and "--offline" in words(command)
}


@pytest.mark.parametrize("command", RUN)
def test_a_command_that_needs_no_cluster_ends_well(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(main, RUN[command])
    assert result.exit_code == 0, result.output


def test_many_commands_are_run() -> None:
    assert len(RUN) >= 25


def test_a_metric_that_the_page_names_is_one_of_the_engines() -> None:
    known = {row["metric"] for row in engine_rows("metrics.csv")}
    named = set(re.findall(r"`(vllm:[a-z_]+)`", PAGE.read_text()))
    assert named - GONE <= known
    assert len(named) >= 6


def test_an_alert_that_the_page_names_is_one_of_the_chart() -> None:
    rules = (ROOT / "charts" / "vllm-operator" / "files" / "rules.yaml").read_text()
    named = set(re.findall(r"`(VLLM[A-Z][A-Za-z]+)`", PAGE.read_text()))
    assert named <= set(re.findall(r"alert: (\w+)", rules))
    assert len(named) >= 4


def refusal(engine: dict[str, Any]) -> str:
    server = {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMServer",
        "metadata": {"name": "asked"},
        "spec": {"model": {"id": "Qwen/Qwen2.5-7B-Instruct"}, "engine": engine},
    }
    result = CliRunner().invoke(
        main, [*PLAN, *USUAL, "-f", "-", "-o", "json"], input=yaml.safe_dump(server)
    )
    (plan,) = yaml.safe_load(result.stdout)
    return str(plan["problems"][0]["message"])


def answers() -> dict[str, str]:
    table = section(PAGE, "Dead or wrong in the guides")
    found = re.findall(r"^\| (`[^`]+`) \| (.+) \|$", table, re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("flag", [one for one in answers() if one.startswith("`--")])
def test_a_dead_flag_is_answered_as_the_page_says(flag: str) -> None:
    assert refusal({"extraArgs": [f"{flag.strip('`')}=1"]}) == answers()[flag]


@pytest.mark.parametrize(("field", "engine"), FIELDS, ids=[field for field, _ in FIELDS])
def test_a_value_that_is_dead_is_answered_as_the_page_says(
    field: str, engine: dict[str, Any]
) -> None:
    assert answers()[field] in refusal(engine)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_its_plan_predicts(path: Path) -> None:
    text = path.read_text()
    for name, comment in predicted(path).items():
        assert f"{comment}\n" in f"{text}\n", name


def test_every_recipe_stands_in_the_table_of_recipes() -> None:
    named = set(re.findall(r"\.\./examples/guides/([a-z-]+\.yaml)", section(PAGE, "Recipes")))
    assert {path.name for path in RECIPES} <= named
    assert len(RECIPES) >= 8
