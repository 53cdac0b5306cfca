"""Arguments that a user adds are read as vLLM reads them, and each flag has a verdict."""

import re

import pytest

from vllm_operator.engine import arguments
from vllm_operator.engine.arguments import json_value, read, rules
from vllm_operator.engine.flags import find
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import Version

OLD, NEW = Version.parse("0.8.5"), Version.parse("0.30.0")
VERSIONS = ("0.8.5", "0.9.2", "0.10.2", "0.11.0", "0.12.0", "0.18.0", "0.20.0", "0.30.0", "0.33.0")


def given(*words: str, version: Version = NEW) -> list[tuple[str, str, tuple[str, ...]]]:
    found, problems = read(words, version)
    assert problems == []
    return [(one.name, one.key, one.values) for one in found]


def problem(*words: str, version: Version = NEW) -> tuple[int, str]:
    _, ((index, text),) = read(words, version)
    return index, text


@pytest.mark.parametrize(
    ("words", "name", "key", "values"),
    [
        (["--seed", "1"], "--seed", "", ("1",)),
        (["--seed=1"], "--seed", "", ("1",)),
        (["--seed", "-1"], "--seed", "", ("-1",)),
        (["--otlp_traces_endpoint=http://a_b"], "--otlp-traces-endpoint", "", ("http://a_b",)),
        (["--scheduling-pol", "fcfs"], "--scheduling-policy", "", ("fcfs",)),
        (["--no-async-scheduling"], "--no-async-scheduling", "", ()),
        (["-O2"], "--optimization-level", "", ("2",)),
        (["-O", "2"], "--optimization-level", "", ("2",)),
        (["-O=2"], "--optimization-level", "", ("2",)),
        (["-cc.cudagraph_mode", "NONE"], "--compilation-config", "cudagraph_mode", ("NONE",)),
        (["-cc.cudagraph_mode=NONE"], "--compilation-config", "cudagraph_mode", ("NONE",)),
        (["-O.mode=3"], "--compilation-config", "mode", ("3",)),
        (["-O.mode", "3"], "--compilation-config", "mode", ("3",)),
        (["--cudagraph-capture-sizes", "1", "2"], "--cudagraph-capture-sizes", "", ("1", "2")),
        (["--chat-template", "--seed 1"], "--chat-template", "", ("--seed 1",)),
    ],
)
def test_every_way_to_give_a_value_is_read(
    words: list[str], name: str, key: str, values: tuple[str, ...]
):
    assert given(*words) == [(name, key, values)]


@pytest.mark.parametrize("text", VERSIONS)
def test_a_dotted_short_form_is_a_key_of_the_compilation_in_every_version(text: str):
    (one,) = given("-O.level=3", version=Version.parse(text))
    assert one == ("--compilation-config", "level", ("3",))


@pytest.mark.parametrize(
    "value", ["1", "-1", " 1 ", "1_000", "16M", "16m", "1.5k", "1.5k ", "+5", "0"]
)
def test_a_size_is_read_as_vllm_reads_it(value: str):
    # Before 0.30 its configuration took any.
    assert given(f"--max-num-queued-tokens={value}", version=Version.parse("0.29.0"))


@pytest.mark.parametrize("value", ["1.5", "1.5K", "1.5M", "-1k", "k", "1kk", "", "auto", "1.k"])
def test_what_vllm_reads_as_no_size_is_refused(value: str):
    _, text = problem(f"--safetensors-prefetch-block-size={value}")
    assert text.endswith(f"takes a whole number, or one such as 16M or 1.5k, and is {value!r}")


def test_the_short_form_of_an_older_version_is_read_as_it_did():
    assert given("-O3", version=OLD) == [("--compilation-config", "", ("3",))]


@pytest.mark.parametrize(
    ("words", "index", "text"),
    [
        (["--seed"], 0, "--seed has no value; add it"),
        (["--seed", "x"], 1, "--seed takes a whole number, and is 'x'"),
        (["--max-num-queued-tokens=many"], 0, "takes a whole number"),
        (["--sse-keep-alive-interval", "-1"], 1, "takes a whole number from 0 on, and is '-1'"),
        (["--cudagraph-capture-sizes", "1", "-2"], 2, "takes a whole number from 0 on"),
        (["--video-pruning-rate", "half"], 1, "takes a number"),
        (["--allowed-origins", "*"], 1, "takes JSON"),
        (["--media-io-kwargs", "[]"], 1, "takes a JSON object"),
        (["--scheduling-policy", "random"], 1, "is none of"),
        (["--load-format", "fastsafetensors"], 1, "is none of auto, hf"),
        (["--async-scheduling=yes"], 0, "takes no value"),
        (["--async-scheduling", "yes"], 1, "'yes' follows nothing that takes a value"),
        (["--seed", "1", "2"], 2, "'2' follows nothing"),
        (["word"], 0, "'word' follows nothing"),
        (["--"], 0, "-- ends the flags"),
        (["--seed.x", "1"], 0, "takes no JSON"),
        (["--structured-outputs-config.colour", "red"], 0, "has no key colour"),
        (["--structured-outputs-config", '{"colour":1}'], 0, "has no key colour"),
        (["--structured-outputs-config", "[]"], 0, "takes a JSON object"),
        (["--swap-space", "4"], 0, "vLLM 0.30.0 does not have --swap-space; remove it"),
    ],
)
def test_what_the_parser_would_refuse_is_told_at_its_word(words: list[str], index: int, text: str):
    where, found = problem(*words)
    assert where == index
    assert text in found


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("--seed 1", "'--seed 1' is one entry; write two, --seed and 1, or --seed=1"),
        ("--seed = 1", "write two, --seed and 1, or --seed=1"),
        ("-cc {}", "write two, -cc and {}, or -cc={}"),
        ('--media-io-kwargs {"a": 1}', 'write two, --media-io-kwargs and {"a": 1}, or'),
        ("--ignore-patterns a b", "write every flag and every value as an entry of its own"),
        ("--seed 1 --no-async-scheduling", "write every flag and every value as an entry of"),
        ("--async-scheduling true", "is more than a flag; write --async-scheduling alone"),
        ("--async-scheduling ", "is more than a flag; write --async-scheduling alone"),
        ("--port 1", "--port may not be set here; remove it: the Service"),
        ("-tp 2", "repeats a field of the specification; use spec.parallelism.tensor"),
        ("--swap-space 4", "vLLM 0.30.0 does not have --swap-space; remove it"),
    ],
)
def test_a_flag_and_its_value_in_one_entry_are_told_apart(word: str, text: str):
    where, found = problem(word)
    assert where == 0
    assert text in found


@pytest.mark.parametrize("text", VERSIONS)
def test_no_list_may_be_empty(text: str):
    known = Version.parse(text)
    for row in rows("flags.csv"):
        flag = find(row["flag"], known)
        if flag is not None and flag.takes == "values":
            assert problem(row["flag"], version=known)[1].endswith("has no value; add it")


@pytest.mark.parametrize("text", VERSIONS)
def test_no_remedy_names_a_flag_that_is_refused_in_its_turn(text: str):
    version = Version.parse(text)
    gone = {row["flag"] for table in ("replaced_flags.csv", "flags.csv") for row in rows(table)}
    for flag in sorted(gone):
        if find(flag, version) is not None:
            continue
        _, found = problem(flag, version=version)
        for named in re.findall(r"--[a-z0-9-]+", found.partition("; ")[2]):
            assert find(named, version) is not None, found
            assert not rules()[named].refused, found


def test_no_refusal_by_the_operator_names_a_flag_that_it_refuses():
    named = {
        flag
        for rule in rules().values()
        for flag in re.findall(r"--[a-z0-9-]+", rule.remedy)
        if rules()[flag].refused
    }
    assert named == set()


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("--rope-scaling={}", "remove it, or serve a checkpoint whose config.json has it"),
        ("--speculative-model=x", "use spec.engine.speculative"),
        ("--eplb_step_interval=1", "remove it: redundant experts are not planned"),
        ("--disable-cuda-graph", "use spec.engine.enforceEager"),
        ("--max-model-length=1", "the nearest is --max-model-len; use spec.engine.maxModelLen"),
    ],
)
def test_what_took_a_flags_place_is_told_to_the_end(word: str, remedy: str):
    _, text = problem(word)
    assert f"; {remedy}" in text


def test_a_value_of_a_list_does_not_begin_with_a_dash():
    index, text = problem("--ignore-patterns", "-1", "x")
    assert (index, text) == (
        1,
        "--ignore-patterns -1: a value that begins with a dash ends the list; remove it",
    )


def test_dotted_keys_make_one_value():
    found, _ = read(["-cc.cudagraph_mode", "NONE", "-cc.compile_sizes=[1,2]"], NEW)
    assert json_value(found) == {"cudagraph_mode": "NONE", "compile_sizes": [1, 2]}


def test_nested_keys_make_nested_values():
    found, _ = read(["--media-io-kwargs.video.num_frames", "8"], NEW)
    assert json_value(found) == {"video": {"num_frames": 8}}


def test_a_whole_value_and_dotted_keys_do_not_go_together():
    found, _ = read(["-cc", '{"mode": 3}', "-cc.cudagraph_mode=NONE"], NEW)
    with pytest.raises(ValueError, match="keep one"):
        json_value(found)


def test_every_flag_of_every_version_has_a_verdict():
    named = {row["name"] or row["flag"] for row in rows("flags.csv")}
    assert named - rules().keys() == set()


def test_every_refusal_says_what_to_do_and_every_row_has_a_source():
    for row in rows("extra_arguments.csv"):
        refused = row["verdict"] in ("field", "operator", "memory")
        assert bool(row["remedy"]) == refused, row["flag"]
        assert row["source"], row["flag"]
    assert {rule.verdict for rule in rules().values()} == set(
        arguments.Verdict.__args__  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("text", VERSIONS)
def test_a_flag_spelled_with_underscores_is_told_the_same(text: str):
    version = Version.parse(text)
    for flag in {*rules(), *(row["flag"] for row in rows("replaced_flags.csv"))}:
        if not flag.startswith("--"):
            continue
        spelled = "--" + flag.removeprefix("--").replace("-", "_")
        told, again = ([what for _, what in read([word], version)[1]] for word in (flag, spelled))
        assert [what.replace(spelled, flag) for what in again] == told
