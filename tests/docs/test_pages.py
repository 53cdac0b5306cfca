"""Links lead somewhere, manifests work, commands exist, and what is shown as output is output."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from click.testing import CliRunner

from docs.support import ROOT, Block, anchors, blocks, name_of, pages, prose
from vllm_operator.api.crd import schema_problems
from vllm_operator.cli.main import main
from vllm_operator.engine.versions import DEFAULT_IMAGE, Version, version_in_tag
from vllm_operator.sizing.memory.coefficients import coefficient

PAGES = pages()
README = ROOT / "README.md"
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
GPU = ["--gpu", "NVIDIA-H100-80GB-HBM3", "--gpus-per-node", "8", "--offline"]
WIDTH = 100


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


def manifests(page: Path) -> list[tuple[Block, dict[str, Any]]]:
    return [
        (block, document)
        for block in blocks(page, "yaml", "yml")
        for document in yaml.safe_load_all(block.text)
        if isinstance(document, dict) and document.get("kind") == "VLLMServer"
    ]


SHOWN = [found for page in PAGES for found in manifests(page)]


@pytest.mark.parametrize(("block", "manifest"), SHOWN, ids=[str(block) for block, _ in SHOWN])
def test_every_server_that_a_page_shows_is_valid_and_can_be_planned(
    block: Block, manifest: dict[str, Any]
) -> None:
    assert schema_problems(manifest) == []
    result = CliRunner().invoke(main, ["plan", "-f", "-", *GPU], input=yaml.safe_dump(manifest))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "block", [block for page in PAGES for block in blocks(page, "yaml", "yml")], ids=str
)
def test_every_yaml_block_is_yaml(block: Block) -> None:
    list(yaml.safe_load_all(block.text))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_every_example_can_be_planned_without_a_cluster(example: Path) -> None:
    result = CliRunner().invoke(main, ["plan", "-f", str(example), *GPU])
    assert result.exit_code == 0, result.output


def test_the_first_manifest_of_the_readme_is_the_first_example() -> None:
    first = next(blocks(README, "yaml"))
    example = (ROOT / "examples" / "01-minimal.yaml").read_text()
    assert yaml.safe_load(first.text) == yaml.safe_load(example)


def plan_blocks() -> list[tuple[str, list[str]]]:
    """The commands `vllm-operator plan` that pages show, each with the output below it."""
    found = []
    for page in PAGES:
        for block in blocks(page, "console"):
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, *output = part.splitlines()
                if command.startswith("vllm-operator plan"):
                    found.append((command, output))
    return found


def test_a_plan_that_a_page_shows_is_the_plan_that_the_command_prints() -> None:
    shown = plan_blocks()
    assert shown
    for command, output in shown:
        ended = subprocess.run(
            [sys.executable, "-m", "vllm_operator", *shlex.split(command)[1:]],
            cwd=ROOT,
            env={
                **os.environ,
                "COLUMNS": str(WIDTH),
                "PYTHONPATH": str(ROOT / "operator"),
                "NO_COLOR": "1",
                "HF_HUB_OFFLINE": "1",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        printed = [line.rstrip() for line in ended.stdout.splitlines()]
        assert printed == output


SHOWS_THE_DEFAULT = [
    README,
    *EXAMPLES,
    ROOT / "docs" / "reference" / "vllmserver.md",
    ROOT / "crds" / "vllmservers.vllm-operator.io.yaml",
    ROOT / "benchmarks" / "naive_operator.py",
]


@pytest.mark.parametrize("file", SHOWS_THE_DEFAULT, ids=name_of)
def test_vllm_s_image_is_shown_at_the_release_that_runs_by_default(file: Path) -> None:
    shown = re.findall(r"vllm/vllm-openai:v[\d.]*\d", file.read_text())
    assert set(shown) <= {DEFAULT_IMAGE}


@pytest.mark.parametrize(
    "file", [README, ROOT / "docs" / "sizing.md", ROOT / "CHANGELOG.md"], ids=name_of
)
def test_what_a_release_without_a_log_gives_up_is_told_as_it_is(file: Path) -> None:
    kept_back = coefficient("unlogged", Version.parse(version_in_tag(DEFAULT_IMAGE) or "")).high
    assert f"{kept_back:.2f} GiB" in file.read_text()


def test_the_rows_that_explain_the_plan_are_the_rows_that_it_has() -> None:
    text = README.read_text()
    table = text[text.index("## Read the plan") : text.index("## When something is wrong")]
    output = "\n".join(plan_blocks()[0][1])
    for word in ("model", "GPUs", "requests", "KV cache", "start", "Memory", "Arguments"):
        assert f"| {word} |" in table
        assert re.search(rf"^ {word}\b", output, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    # In code only: "make it so" is no command.
    code = [block.text for block in blocks(page, "sh", "console")]
    code += re.findall(r"`(make [a-z0-9-]+)`", page.read_text())
    named = {
        name for text in code for name in re.findall(r"^make ([a-z0-9-]+)", text, re.MULTILINE)
    }
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_a_page_names_in_a_command_exists(page: Path) -> None:
    text = page.read_text()
    for path in re.findall(r"\b((?:examples|crds|charts|benchmarks|tools)/[\w./-]+\w)", text):
        if "*" not in path:
            assert (ROOT / path).exists(), path


def test_the_readme_lists_the_two_commands_that_a_newcomer_needs() -> None:
    first = next(blocks(README, "sh"))
    assert re.findall(r"^make (\w+)", first.text, re.MULTILINE) == ["demo", "test"]


def test_the_first_page_of_the_readme_is_read_in_a_minute() -> None:
    first = prose(README).partition("\n## ")[0]
    assert len(first.split()) < 230  # at four words a second, without what is shown


def test_the_number_of_examples_in_the_changelog_is_theirs() -> None:
    words = {11: "Eleven", 12: "Twelve", 13: "Thirteen", 14: "Fourteen", 18: "Eighteen"}
    assert f"{words[len(EXAMPLES)]} examples" in (ROOT / "CHANGELOG.md").read_text()


def test_every_example_is_mentioned_on_some_page_or_by_its_folder() -> None:
    assert "[examples](examples)" in README.read_text()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_holds_a_word_that_was_left_to_be_done(page: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|TBD)\b", page.read_text())
