"""docs/clusters.md: each row leads to a test that there is and tells reasons that there are."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

from docs.support import DOCS, ROOT
from vllm_operator.api.conditions import REASONS, START_FAILURES
from vllm_operator.lifecycle.notes import STEPS

PAGE = DOCS / "clusters.md"
TESTS = ROOT / "tests"
KNOWN = {*START_FAILURES, *STEPS}.union(*REASONS.values())


def rows() -> list[list[str]]:
    cells = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| ")
    ]
    return [row for row in cells if row[0] != "There"]


@lru_cache(maxsize=32)
def functions(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_a_row_has_a_place_a_sight_a_help_and_a_test() -> None:
    assert [row for row in rows() if len(row) != 4] == []
    assert len(rows()) > 30


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_a_row_is_shown_by_a_test_that_exists(row: list[str]) -> None:
    file, _, name = row[3].strip("`").partition("::")
    assert name.partition("[")[0] in functions(TESTS / file)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_what_is_seen_are_reasons_that_exist(row: list[str]) -> None:
    said = re.findall(r"`([A-Z]\w+)`", row[1])
    assert [reason for reason in said if reason not in KNOWN] == []


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_who_sees_a_failure_or_nothing_at_all_finds_a_page(row: list[str]) -> None:
    assert "](" in row[2] or row[2] in ("The same", "—")
