"""A vLLM source tree is compared with our tables, and every difference is told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from realengine import compare
from realengine.environments import Parsed
from vllm_operator.engine.versions import NEWEST_KNOWN, Version

PARSE = Path(compare.__file__).with_name("parse.py")

SERVE = """\
import argparse
import json
import notinstalled


class Command:
    def subparser_init(self, subparsers):
        parser = subparsers.add_parser("serve")
        parser.add_argument("model", nargs="?")
        parser.add_argument("--max-num-seqs", type=int)
        parser.add_argument("--enable-lora", action=argparse.BooleanOptionalAction, default=False)
        parser.add_argument("--dtype", choices=["auto", "int3"], default="auto")
        parser.add_argument("--gpu-memory-utilization", type=float, default=0.5)
        parser.add_argument("--stream-interval", type=float, default=1)
        parser.add_argument("--never-heard-of", nargs="+")
        return parser

    def validate(self, arguments):
        pass


def cmd_init():
    return [Command()]
"""
PARSER = """\
from argparse import ArgumentParser as FlexibleArgumentParser

SAID = "--max-num-seqs is deprecated and will be removed"
"""
REGISTRY = """\
_TEXT_GENERATION_MODELS = {"LlamaForCausalLM": ("llama", "LlamaForCausalLM")}
_OTHER_MODELS: dict[str, tuple[str, str]] = {"NeverHeardOfForCausalLM": ("never", "NeverHeardOf")}
_PREVIOUSLY_SUPPORTED_MODELS = {"LongGoneForCausalLM": "0.8.0"}
_VLLM_MODELS = {**_TEXT_GENERATION_MODELS, **_OTHER_MODELS}
"""
LOGGERS = """\
class Loggers:
    def make(self):
        self._gauge_cls(name="vllm:num_requests_running", documentation="")
        self._histogram_cls(name="vllm:num_preemptions", documentation="")
        self._counter_cls(name="vllm:never_counted", documentation="")
        self.renamed = {"vllm:num_requests_waiting": "waiting"}
"""


def made(folder: Path) -> Path:
    """A tree with the modules that the comparison reads, and little in them."""
    for name, text in {
        "__init__.py": f'__version__ = "{NEWEST_KNOWN}"\n',
        "entrypoints/__init__.py": "",
        "entrypoints/cli/__init__.py": "",
        "entrypoints/cli/serve.py": SERVE,
        "utils/__init__.py": "",
        "utils/argparse_utils.py": PARSER,
        "v1/metrics/loggers.py": LOGGERS,
        "model_executor/models/registry.py": REGISTRY,
    }.items():
        path = folder / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def asked(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The tree's parser, by this interpreter."""
    return subprocess.run(
        [sys.executable, str(PARSE)],
        input="[]",
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(folder), **variables},
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> compare.Tree:
    folder = made(tmp_path_factory.mktemp("tree"))
    answer = json.loads(asked(folder, PARSE_STANDS_IN="1").stdout.splitlines()[-1])
    parsed = Parsed(answer["version"], answer["flags"], answer["refusals"])
    return compare.read(folder, parsed)


@pytest.fixture(scope="module")
def found(tree: compare.Tree) -> list[str]:
    return compare.differences(tree)


def test_a_tree_is_of_the_release_that_it_says(tree: compare.Tree):
    assert tree.version == NEWEST_KNOWN


@pytest.mark.parametrize(
    "line",
    [
        "--never-heard-of: a flag here, and no row of flags.csv of ours",
        "--never-heard-of: has no verdict in extra_arguments.csv",
        "--max-model-len: a flag in our tables, and not here",
        "int3: a choice of --dtype here, and no row of choices.csv of ours",
        "bfloat16: a choice of --dtype in our tables, and not here",
        "--gpu-memory-utilization: is 0.5 here, and 0.92 in utilization.csv",
        "--stream-interval: reads float here, and int in our tables",
        "--stream-interval: its type is float here, and int in our tables",
        "--gpu-memory-utilization: its default is 0.5 here, and 0.92 in our tables",
        "--max-num-seqs: is deprecated here, and no flag of ours",
        "vllm:never_counted_total: a metric here, and no row of metrics.csv of ours",
        "vllm:prompt_tokens_total: a metric in our tables, and not here",
        "NeverHeardOfForCausalLM: an architecture here, "
        "and no row of tools/realengine/architectures.csv of ours",
        "BertModel: an architecture in our tables, and not here",
        "Qwen3ForCausalLM: served by our architectures.csv, and not here",
    ],
)
def test_each_kind_of_difference_is_told(line: str, found: list[str]):
    assert line in found


@pytest.mark.parametrize(
    "name",
    [
        "--enable-lora",
        "--no-enable-lora",
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "LlamaForCausalLM",
        "LongGoneForCausalLM",
    ],
)
def test_what_is_the_same_is_not_told(name: str, found: list[str]):
    assert [line for line in found if line.startswith((f"{name}: a ", f"{name}: an "))] == []


def test_a_flag_that_takes_something_else_is_told(tree: compare.Tree):
    changed = [
        {**flag, "takes": "values"} if "--max-num-seqs" in flag["spellings"] else flag
        for flag in tree.flags
    ]
    told = compare.differences(compare.Tree(tree.version, changed, tree.metrics, tree.deprecated))
    assert "--max-num-seqs: takes values here, and value in flags.csv" in told


def test_a_metric_of_another_type_is_told(tree: compare.Tree):
    metrics = {"vllm:num_requests_running": "counter"}
    told = compare.differences(compare.Tree(tree.version, tree.flags, metrics, tree.deprecated))
    assert "vllm:num_requests_running: a counter here, and a gauge in our tables" in told


def test_a_module_that_is_not_installed_is_made_up_only_where_that_is_asked_for(tmp_path: Path):
    answer = asked(made(tmp_path))
    assert answer.returncode != 0
    assert "No module named 'notinstalled'" in answer.stderr


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0"])
def test_the_tables_beside_the_script_begin_with_the_first_release_that_was_compared(version: str):
    for name in ("arguments.csv", "metrics.csv", "deprecated.csv"):
        assert compare._rows(name, Version.parse(version))
