"""What the engine only logs, in starts that go on, is no failure of the table."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from realengine.environments import Environment
from vllm_operator.engine.tables import rows

METHODS = {"debug", "info", "info_once", "warning", "warning_once", "error", "exception"}
HOLE = "7"
"""What stands for a value that is known when it is logged."""


def text_of(node: ast.AST) -> str:
    """The text of a literal, with something for each value in it."""
    if isinstance(node, ast.Constant):
        return re.sub(r"%[srd]", HOLE, node.value) if isinstance(node.value, str) else HOLE
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(value) for value in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return HOLE


def logged(source: Path) -> Iterator[str]:
    """Every text that a package gives to a logger."""
    for path in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in METHODS and node.args:
                yield text_of(node.args[0])


def test_no_row_of_the_failure_table_fits_what_the_engine_only_logs(
    environment: Environment,
) -> None:
    texts = list(logged(next(environment.directory.glob("lib/python3*/site-packages/vllm"))))
    assert len(texts) > 1000
    fragments = [row["fragment"] for row in rows("failures.csv") if "log" in row["seen"].split(";")]
    fitting = [(one, text) for one in fragments for text in texts if re.search(one, text)]
    assert fitting == []
