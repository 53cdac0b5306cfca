"""What holds from one version to another, on both sides of each bound."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vllm_operator
from vllm_operator.engine.tables import does, rows
from vllm_operator.engine.versions import Version

PACKAGE = Path(vllm_operator.__file__).parent
NO_THRESHOLDS = {"OLDEST", "NEWEST_KNOWN", "RELEASE"}
"""What the data files reach to, and the operator's own release."""
MAKERS = ("Version", "Version.parse")
BOUNDS = (
    ("adds-lora-vocabulary", None, "0.8.0", "0.11.2", "0.12.0"),
    ("aligns-latent-beside-states", "0.27.1", "0.28.0", "0.33.0", None),
    ("bounds-decode-logits-on-rocm", "0.29.0", "0.30.0", "0.33.0", None),
    ("caches-recurrent-prefixes", "0.27.1", "0.28.0", "0.33.0", None),
    ("captures-coarsely", "0.11.0", "0.11.1", "0.33.0", None),
    ("captures-drafts", "0.19.1", "0.20.0", "0.33.0", None),
    ("captures-graphs-twice-for-lora", "0.11.0", "0.11.1", "0.33.0", None),
    ("captures-more-on-blackwell", "0.27.1", "0.28.0", "0.33.0", None),
    ("charges-no-context", "0.10.2", "0.11.0", "0.33.0", None),
    ("compares-graph-sizes", "0.11.0", "0.11.1", "0.33.0", None),
    ("counts-all-that-is-taken", "0.26.0", "0.27.0", "0.33.0", None),
    ("counts-batches-in-flight", "0.25.0", "0.26.0", "0.33.0", None),
    ("divides-all-experts", "0.9.1", "0.9.2", "0.33.0", None),
    ("groups-whole-models", "0.10.2", "0.11.0", "0.33.0", None),
    ("has-cache-scales-where-declared", "0.23.0", "0.24.0", "0.33.0", None),
    ("has-hybrid-cache", "0.9.2", "0.10.0", "0.33.0", None),
    ("has-lora-for-experts", "0.11.0", "0.11.1", "0.33.0", None),
    ("leaves-addresses-offline", "0.22.1", "0.23.0", "0.33.0", None),
    ("limits-splits", "0.20.2", "0.21.0", "0.33.0", None),
    ("makes-latent-context", "0.10.2", "0.11.0", "0.33.0", None),
    ("multiplies-yarn", None, "0.8.0", "0.29.1", "0.30.0"),
    ("nests-bitsandbytes", None, "0.8.0", "0.9.1", "0.9.2"),
    ("packs-cache-pages", "0.28.0", "0.29.0", "0.33.0", None),
    ("pads-pictures", "0.10.2", "0.11.0", "0.12.1", "0.13.0"),
    ("pools-in-second-runner", "0.28.0", "0.29.0", "0.33.0", None),
    ("prints-concurrency-tokens", "0.20.2", "0.21.0", "0.33.0", None),
    ("profiles-pictures-by-length", "0.9.2", "0.10.0", "0.33.0", None),
    ("reads-json-compilation", "0.9.0", "0.9.1", "0.33.0", None),
    ("reserves-decode-logits-on-rocm", "0.27.1", "0.28.0", "0.33.0", None),
    ("reserves-indexer-logits", "0.19.1", "0.20.0", "0.33.0", None),
    ("samples-with-flashinfer", "0.8.5", "0.9.0", "0.11.0", "0.11.1"),
    ("schedules-ahead", "0.13.0", "0.14.0", "0.33.0", None),
    ("schedules-ahead-in-pipelines", "0.28.0", "0.29.0", "0.33.0", None),
    ("schedules-ahead-when-asked", "0.11.2", "0.12.0", "0.13.0", "0.14.0"),
    ("serves-small-cache-in-v1", "0.10.2", "0.11.0", "0.33.0", None),
    ("skips-what-is-not-chosen", "0.23.0", "0.24.0", "0.33.0", None),
    ("streams-own-drafts", "0.28.1", "0.29.0", "0.33.0", None),
    ("takes-async-scheduling-with-stages", "0.14.0", "0.15.0", "0.33.0", None),
    ("takes-blocks-of-any-16", "0.17.1", "0.18.0", "0.33.0", None),
    ("takes-lora-beside-expert-parallelism", "0.20.2", "0.21.0", "0.33.0", None),
    ("takes-lora-rank-1", "0.11.0", "0.11.1", "0.33.0", None),
    ("wants-a-block-a-state", "0.19.1", "0.20.0", "0.33.0", None),
    ("wants-a-state-block-a-step", "0.19.1", "0.20.0", "0.27.1", "0.28.0"),
)


@pytest.mark.parametrize(("name", "before", "first", "last", "after"), BOUNDS)
def test_a_version_does_it_from_the_first_to_the_last(
    name: str, before: str | None, first: str, last: str, after: str | None
) -> None:
    assert does(name, Version.parse(first))
    assert does(name, Version.parse(last))
    assert not any(does(name, Version.parse(one)) for one in (before, after) if one)


def test_every_row_has_its_bounds_tested_and_says_what_it_means_and_who_says_so() -> None:
    assert [row["name"] for row in rows("since.csv")] == [name for name, *_ in BOUNDS]
    assert all(row["means"] and row["source"] for row in rows("since.csv"))


def trees() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text())


def test_every_row_is_asked_for_and_every_question_has_its_row() -> None:
    asked = {
        one.value
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "does"
        for one in ast.walk(node.args[0])
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    }
    assert asked == {row["name"] for row in rows("since.csv")}


def literal_releases(tree: ast.AST) -> Iterator[str]:
    """Releases that the code itself names: in a comparison, or to make a version of them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(isinstance(one, ast.Attribute) and one.attr == "release" for one in sides):
                yield from (ast.unparse(one) for one in sides if is_literal(one))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in MAKERS:
            yield from (ast.unparse(node) for one in node.args[:1] if is_literal(one))


def is_literal(side: ast.expr) -> bool:
    """Whether it is a value that stands in the code, or a constant that is named after one."""
    if isinstance(side, ast.Constant | ast.Tuple):
        return all(isinstance(one, ast.Constant) for one in getattr(side, "elts", [side]))
    name = side.value if isinstance(side, ast.Attribute) else side
    return isinstance(name, ast.Name) and name.id.isupper() and name.id not in NO_THRESHOLDS


def test_no_code_compares_a_release_with_a_literal_one() -> None:
    found = {
        f"{path}: {one}"
        for path, tree in trees()
        if path != "engine/versions.py"
        for one in literal_releases(tree)
    }
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "version.release >= (0, 11, 0)",
        "(0, 11, 0) <= version.release < (0, 13, 0)",
        "version.release <= NESTED_UNTIL.release",
        "version.release < RANK_ONE_SINCE",
        "SINCE = Version((0, 9, 1))",
        'SINCE = Version.parse("0.9.1")',
    ],
)
def test_literal_releases_are_found(code: str) -> None:
    assert list(literal_releases(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "version.release < OLDEST.release",
        'version.release < Version.parse(row["since"]).release',
        "version.release < since",
        "Version((0, minor, 0))",
    ],
)
def test_releases_of_data_are_not_taken_for_literal_ones(code: str) -> None:
    assert not list(literal_releases(ast.parse(code)))
