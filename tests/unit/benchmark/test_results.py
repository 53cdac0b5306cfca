"""A result is read from the log of its Job, kept within bounds, and read again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unit.benchmark.support import measured, result, run
from vllm_operator.benchmark import kept
from vllm_operator.benchmark.results import MARK, Measured, Result, read_log
from vllm_operator.errors import InputError


def line(**record: Any) -> str:
    return MARK + json.dumps(record)


def log_of(found: Result, *lines: str) -> str:
    begun = {**found.to_json_object()}
    begun["points"] = [{**one, "runs": []} for one in begun["points"]]
    return "\n".join(["INFO vLLM says something", line(begin=begun), *lines, ""])


def test_a_result_is_read_again_as_it_was_kept() -> None:
    found = result(points=[measured(1.0, 1.1), measured(2.0, concurrency=16)])
    assert Result.from_json_object(json.loads(json.dumps(found.to_json_object()))) == found


def test_what_is_no_result_is_refused() -> None:
    for document in ({}, {"schemaVersion": 2}, {"schemaVersion": 1, "name": "x"}):
        with pytest.raises(InputError, match=r"no result|schema"):
            Result.from_json_object(document)


def test_a_plan_is_kept_without_what_no_comparison_reads() -> None:
    document = result().to_json_object()
    assert document["plan"]["model"]["facts"] == {}
    assert document["plan"].get("rejected", []) == []


def test_runs_of_a_log_belong_to_their_loads() -> None:
    text = log_of(
        result(points=[measured(), measured(concurrency=16)]),
        line(state="run 1 of 1 with 8 at once", number=2, of=4),
        line(run={"point": 0, "repeat": 0, "figures": run(1.0)}),
        line(run={"point": 1, "repeat": 0, "figures": run(2.0)}),
        line(end=True),
    )
    progress = read_log(text)
    assert progress.done
    assert progress.result == result(points=[measured(1.0), measured(2.0, concurrency=16)])


def test_a_log_tells_how_far_it_is() -> None:
    text = log_of(result(), line(state="run 2 of 3 with 8 at once", number=2, of=4))
    progress = read_log(text)
    assert (progress.state, progress.number, progress.of) == ("run 2 of 3 with 8 at once", 2, 4)
    assert not progress.done


def test_a_log_without_a_mark_has_not_begun() -> None:
    progress = read_log("INFO importing\n")
    assert progress.result is None
    assert progress.state == "starts"


def test_a_line_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(InputError, match="cut off"):
        read_log(line(end=True)[:-1])


def test_requests_that_were_not_completed_failed() -> None:
    assert measured(1.0, 1.0, completed=38).failed == 4
    assert measured(1.0, 1.0).failed == 0


def test_a_figure_that_a_run_lacks_is_left_out() -> None:
    point = measured(1.0).point
    runs = ({"output_throughput": 1.0}, {"output_throughput": None}, {})
    assert Measured(point, runs).values("output_throughput") == [1.0]


def named(number: int) -> Result:
    return result(name=f"20260101-{number:06}")


def test_the_ten_newest_results_are_kept() -> None:
    data: dict[str, str] = {}
    for number in range(12):
        for name, text in kept.changes(data, named(number)).items():
            if text is None:
                del data[name]
            else:
                data[name] = text
    assert [one.name for one in kept.read(data)] == [named(n).name for n in range(11, 1, -1)]


def test_results_that_are_too_large_together_push_out_the_oldest() -> None:
    large = "x" * 300_000
    data = {"20250101-000000": large, "20250102-000000": large, "20250103-000000": large}
    changes = kept.changes(data, named(1))
    assert {name for name, text in changes.items() if text is None} == {"20250101-000000"}


def test_a_result_that_is_too_large_alone_is_refused() -> None:
    huge = [measured(*[1.0] * 2000)]
    with pytest.raises(InputError, match="700000 are kept"):
        kept.changes({}, result(points=huge))


def test_results_of_another_release_are_passed_over() -> None:
    text = json.dumps(result().to_json_object())
    data = {"20250101-000000": "{}", "20260101-000000": text, "20270101-000000": "no JSON"}
    assert [one.name for one in kept.read(data)] == ["20260101-000000"]


def test_the_results_go_with_their_server() -> None:
    (owner,) = kept.config_map("qwen", "default", "uid-1")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("VLLMServer", "qwen", "uid-1")
    assert owner["controller"] is False
    assert owner["blockOwnerDeletion"] is False


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("replicas",), "1"),
        (("load", "promptTokens"), "1000"),
        (("load", "outputTokens"), 2.5),
        (("points", 0, "concurrency"), "32"),
        (("points", 0, "prompts"), True),
        (("points", 0, "runs", 0, "completed"), "all"),
        (("points", 0, "runs"), "text"),
        (("points", 0, "runs", 0, "output_throughput"), float("inf")),
    ],
)
def test_a_figure_that_is_none_makes_no_result(path: tuple[Any, ...], value: Any) -> None:
    """Whoever may write the ConfigMap may write anything; the operator reads it."""
    document: Any = result(points=[measured(1.0)]).to_json_object()
    *way, last = path
    inside = document
    for step in way:
        inside = inside[step]
    inside[last] = value
    with pytest.raises(InputError, match="no result of a benchmark"):
        Result.from_json_object(document)
    assert kept.read({"a": json.dumps(document)}) == []


def test_a_text_of_endless_depth_is_left_out() -> None:
    assert kept.read({"a": "[" * 100_000}) == []
