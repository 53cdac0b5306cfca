"""Arguments that a user adds are read as vLLM reads them, and each flag has a verdict."""

import pytest

from vllm_operator.engine import arguments
from vllm_operator.engine.arguments import json_value, read, rules
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import Version

OLD, NEW = Version.parse("0.8.5"), Version.parse("0.30.0")


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
        (["--cudagraph-capture-sizes", "1", "2"], "--cudagraph-capture-sizes", "", ("1", "2")),
    ],
)
def test_every_way_to_give_a_value_is_read(
    words: list[str], name: str, key: str, values: tuple[str, ...]
):
    assert given(*words) == [(name, key, values)]


def test_the_short_form_of_an_older_version_is_read_as_it_did():
    assert given("-O3", version=OLD) == [("--compilation-config", "", ("3",))]


@pytest.mark.parametrize(
    ("words", "index", "text"),
    [
        (["--seed"], 0, "--seed has no value; add it"),
        (["--seed", "x"], 1, "--seed takes a whole number, and is 'x'"),
        (["--max-num-queued-tokens=many"], 0, "takes a whole number"),
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
