"""What the page about machines without Kubernetes shows is what the command prints."""

from __future__ import annotations

import re
import shlex

import pytest
from click.testing import CliRunner

from docs.support import DOCS, ROOT, blocks, section
from vllm_operator.cli.main import main
from vllm_operator.cli.render import TARGETS
from vllm_operator.manifests.elsewhere.fields import rows

PAGE = DOCS / "elsewhere.md"
LEFT_OUT = "…"


def shown() -> list[tuple[str, str]]:
    """Commands, each with the output below it."""
    found = []
    for block in blocks(PAGE, "console"):
        command, _, output = block.text.removeprefix("$ ").partition("\n")
        found.append((command, output))
    return found


SHOWN = shown()


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_what_is_shown_is_printed_in_this_order(
    command: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(main, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    printed = result.output
    for part in filter(None, re.split(rf"^{LEFT_OUT}\n", output, flags=re.MULTILINE)):
        _, found, printed = printed.partition(part)
        assert found, part


def test_every_target_is_shown() -> None:
    targets = {command.split("--target ")[1].split()[0] for command, _ in SHOWN}
    assert targets == set(TARGETS) - {"kubernetes"}


def test_every_field_without_a_counterpart_stands_there_with_its_words() -> None:
    table = section(PAGE, "What has no counterpart")
    for row in rows():
        if row.verdict != "kept":
            words = row.words.replace("{target}", "the target")
            listed = [line for line in table.splitlines() if f"| `{row.field}` |" in line]
            assert any(f"| {row.verdict}: {words} |" in line for line in listed), row


def test_no_field_stands_there_that_has_a_counterpart() -> None:
    lines = section(PAGE, "What has no counterpart").splitlines()
    told = [row for row in rows() if row.verdict != "kept"]
    assert len([line for line in lines if line.startswith("| `spec.")]) == len(told)
