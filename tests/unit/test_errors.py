"""The tree of exceptions is the whole tree."""

from __future__ import annotations

import ast
import builtins
import re
from pathlib import Path

import vllm_operator
from vllm_operator import errors

PACKAGE = Path(vllm_operator.__file__).parent
TREE = {
    name: one
    for name, one in vars(errors).items()
    if isinstance(one, type) and issubclass(one, Exception)
}
BUILT_IN = {
    name
    for name, one in vars(builtins).items()
    if isinstance(one, type) and issubclass(one, BaseException)
}


def is_exception(name: str) -> bool:
    return name in BUILT_IN or name in TREE or name.endswith(("Error", "Exception"))


def test_no_exception_is_defined_outside_of_the_tree() -> None:
    elsewhere = {
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "errors.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any(is_exception(ast.unparse(base).rpartition(".")[2]) for base in node.bases)
    }
    assert not elsewhere


def test_the_drawing_shows_every_exception_below_its_base() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for branch, name in re.findall(r"^    ([│ ├└─]*)([A-Z]\w+)", errors.__doc__ or "", re.M):
        del above[len(branch) // 4 :]
        drawn[name] = above[-1] if above else "Exception"
        above.append(name)
    assert drawn == {name: one.__bases__[0].__name__ for name, one in TREE.items()}
