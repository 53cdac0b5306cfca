"""`python -m realengine.compare TREE`: what a vLLM source tree says otherwise than our tables.

`TREE` is a folder with vLLM's package `vllm` in it: an unpacked source distribution, or the
`site-packages` of an installation. Flags, what they take, their choices, types and defaults are
asked of the tree's own parser, which the installed environment runs; metrics and deprecations are
read from the text of its modules, as nothing lists them, architectures from its registry, and what
its configuration raises and asserts by `raises.py`.

The operator's tables stand in `operator/vllm_operator/engine`. What it does not use of a release,
and what changes all the same, stands beside this module: `arguments.csv` has the types and defaults
of the parser, `metrics.csv` the metrics that nobody here reads, `deprecated.csv` the flags that
vLLM calls deprecated, `architectures.csv` the names of its models (`served.py` prints them). Prints
a line for each difference; the exit status is 1 where there is one.
"""

import ast
import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from realengine import raises
from realengine.environments import SERVING, Environment, Parsed, ensure
from realengine.errors import RealEngineError
from vllm_operator.engine import arguments, defaults, flags
from vllm_operator.engine.tables import holds, rows
from vllm_operator.engine.versions import Version

BESIDE = Path(__file__).parent
METRIC = re.compile(r"vllm:[a-z0-9_]+")
TYPES = ("gauge", "counter", "histogram")
DEPRECATED = re.compile(r"(--[a-z0-9-]+)\)? is deprecated")
READS = {
    "int": {"int", "count"},
    "float": {"float"},
    "human_readable_int": {"size"},
}
"""What `extra_arguments.csv` may say of a type; every other is text or JSON to us."""
UTILIZATION = "--gpu-memory-utilization"
REGISTRY = Path("vllm", "model_executor", "models", "registry.py")
NOT_REGISTERED = frozenset({"LlavaLlamaForCausalLM"})
"""What some release served without its registry's knowing it (see its row)."""
GONE = ("_PREVIOUSLY_SUPPORTED_MODELS", "_OOT_SUPPORTED_MODELS")
"""Lists of the registry that only say where a name was or is served."""


@dataclass(frozen=True)
class Tree:
    """What a source tree says of itself."""

    version: Version
    flags: list[dict[str, Any]]
    metrics: Mapping[str, str]
    """The type of each metric by its name; empty where the text does not say it."""
    deprecated: frozenset[str]
    architectures: frozenset[str] = frozenset()
    """The names of its models; empty where the tree has no registry."""


def read(folder: Path, parsed: Parsed) -> Tree:
    """What the tree in `folder` says, with what its parser said."""
    metrics: dict[str, str] = {}
    deprecated: set[str] = set()
    for path in sorted((folder / "vllm").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "vllm:" not in text and "is deprecated" not in text:
            continue
        module = ast.parse(text)
        for name, kind in _metrics(module):
            metrics[name] = metrics.get(name) or kind
        for constant in _texts(module):
            deprecated.update(DEPRECATED.findall(constant))
    known = {text for flag in parsed.flags for text in flag["spellings"]}
    return Tree(
        Version(Version.parse(parsed.version).release),
        parsed.flags,
        metrics,
        frozenset(deprecated & known),
        frozenset(_architectures(folder / REGISTRY)),
    )


def _architectures(registry: Path) -> Iterator[str]:
    """The keys of the registry's lists, each of which is a dictionary that is written out."""
    if not registry.exists():
        return
    for statement in ast.parse(registry.read_text(encoding="utf-8")).body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        if not isinstance(target, ast.Name) or not isinstance(statement.value, ast.Dict):
            continue
        if target.id.endswith("_MODELS") and target.id not in GONE:
            yield from (
                str(key.value) for key in statement.value.keys if isinstance(key, ast.Constant)
            )


def _texts(module: ast.AST) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _metrics(module: ast.AST) -> Iterator[tuple[str, str]]:
    """The metrics that a module names, with their type where a call of that name makes them."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            callee = ast.unparse(node.func).lower()
            kind = next((one for one in TYPES if one in callee), "")
            given = [*node.args[:1], *(one.value for one in node.keywords if one.arg == "name")]
            for one in given:
                if kind and isinstance(one, ast.Constant) and _is_metric(one.value):
                    yield exported(str(one.value), kind), kind
    for text in _texts(module):
        if _is_metric(text):
            yield text, ""


def _is_metric(value: object) -> bool:
    return isinstance(value, str) and METRIC.fullmatch(value) is not None


def exported(name: str, kind: str) -> str:
    """A metric as `/metrics` shows it: counters end in `_total` there."""
    return f"{name.removesuffix('_total')}_total" if kind == "counter" else name


def differences(tree: Tree) -> list[str]:
    """What the tree says otherwise than the tables, one line each."""
    return [
        *_flag_differences(tree),
        *_argument_differences(tree),
        *_metric_differences(tree),
        *_listed(
            "is deprecated", tree.deprecated, _own("deprecated.csv", "flag", tree.version), "flag"
        ),
        *_architecture_differences(tree),
    ]


def _listed(what: str, real: Iterable[str], table: Iterable[str], noun: str) -> Iterator[str]:
    real, table = set(real), set(table)
    yield from (f"{one}: {what} here, and no {noun} of ours" for one in sorted(real - table))
    yield from (f"{one}: {what} in our tables, and not here" for one in sorted(table - real))


def _architecture_differences(tree: Tree) -> Iterator[str]:
    if tree.architectures:
        table = _own("architectures.csv", "architecture", tree.version)
        yield from _listed(
            "an architecture",
            tree.architectures,
            table,
            "row of tools/realengine/architectures.csv",
        )
        served = {
            row["architecture"] for row in rows("architectures.csv") if holds(row, tree.version)
        }
        yield from (
            f"{one}: served by our architectures.csv, and not here"
            for one in sorted(served - tree.architectures - NOT_REGISTERED)
        )


def _flag_differences(tree: Tree) -> Iterator[str]:
    table = flags.serve_flags(tree.version)
    real = {text: flag for flag in tree.flags for text in flag["spellings"]}
    yield from _listed("a flag", real, table, "row of flags.csv")
    for spelling in sorted(set(real) & set(table)):
        takes = real[spelling]["takes"]
        if table[spelling].takes != takes:
            ours = table[spelling].takes or "nothing known"
            yield f"{spelling}: takes {takes} here, and {ours} in flags.csv"
    for flag in tree.flags:
        own = table.get(flag["spellings"][0])
        if own is None or flag["takes"] == flags.SWITCH:
            continue
        what = f"a choice of {own.name}"
        yield from _listed(what, flag["choices"], own.choices, "row of choices.csv")


def _argument_differences(tree: Tree) -> Iterator[str]:
    known = {row["flag"]: row for row in _rows("arguments.csv", tree.version)}
    rules = arguments.rules()
    names = {_name(flag): flag for flag in tree.flags}
    yield from _listed("an argument", names, known, "row of arguments.csv")
    for name, flag in names.items():
        if name not in rules:
            yield f"{name}: has no verdict in extra_arguments.csv"
        elif flag["type"] in READS and not rules[name].refused:
            ours = rules[name].reads
            if ours not in READS[flag["type"]]:
                yield f"{name}: reads {flag['type']} here, and {ours or 'text'} in our tables"
        for fact in ("type", "default") if name in known else ():
            if flag[fact] != known[name][fact]:
                ours = known[name][fact] or "none"
                yield f"{name}: its {fact} is {flag[fact] or 'none'} here, and {ours} in our tables"
    utilization = names.get(UTILIZATION)
    fraction = defaults.gpu_memory_utilization(tree.version)
    if utilization is not None and float(utilization["default"]) != fraction:
        yield f"{UTILIZATION}: is {utilization['default']} here, and {fraction} in utilization.csv"


def _name(flag: Mapping[str, Any]) -> str:
    """The flag's first long spelling."""
    spellings: list[str] = flag["spellings"]
    return next((one for one in spellings if one.startswith("--")), spellings[0])


def _metric_differences(tree: Tree) -> Iterator[str]:
    table = {
        row["metric"]: row["type"]
        for row in (*rows("metrics.csv"), *_read("metrics.csv"))
        if row["metric"].startswith("vllm:") and holds(row, tree.version)
    }
    # The text may name a counter by itself and where it is made, or make it of a list of names.
    real = {
        f"{one}_total" if not kind and table.get(f"{one}_total") == "counter" else one: kind
        for one, kind in tree.metrics.items()
        if kind or one not in _counted(tree)
    }
    yield from _listed("a metric", real, table, "row of metrics.csv")
    for name in sorted(set(real) & set(table)):
        if real[name] and real[name] != table[name]:
            yield f"{name}: a {real[name]} here, and a {table[name]} in our tables"


def _counted(tree: Tree) -> frozenset[str]:
    """Names whose counter ends in `_total`."""
    made = (name for name, kind in tree.metrics.items() if kind == "counter")
    return frozenset(name.removesuffix("_total") for name in made)


def _read(name: str) -> list[dict[str, str]]:
    with (BESIDE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _rows(name: str, version: Version) -> list[dict[str, str]]:
    return [row for row in _read(name) if holds(row, version)]


def _own(name: str, column: str, version: Version) -> set[str]:
    return {row[column] for row in _rows(name, version)}


def compare(environment: Environment, folder: Path) -> list[str]:
    """The differences of the tree in `folder`, whose parser the environment runs.

    Raises EngineFailed where the parser does not run there.
    """
    tree = read(folder, environment.parse_tree(folder))
    return [*differences(tree), *raises.differences(folder, tree.version)]


@click.command()
@click.argument("tree", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(tree: Path) -> None:
    """Print what the vLLM source in TREE says otherwise than our tables."""
    try:
        found = compare(ensure(SERVING), tree)
    except RealEngineError as error:
        sys.exit(str(error))
    for line in found:
        click.echo(line)
    click.echo(f"{len(found)} differences", err=True)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
