"""Two results side by side: which is better, beyond noise, and in what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from support.builders import make_plan
from unit.benchmark.support import measured, result
from vllm_operator.api.plan import Flag
from vllm_operator.benchmark.comparison import compare
from vllm_operator.benchmark.load import Load
from vllm_operator.benchmark.results import OUTPUT, TTFT, Result

STEADY = (1.0, 1.01, 0.99)
FASTER = (1.3, 1.31, 1.29)


def of(name: str, *scales: float, **given: Any) -> Result:
    return result(name=name, points=[measured(*scales, **given)])


def test_the_faster_one_is_named_with_the_interval() -> None:
    found = compare(of("a", *STEADY), of("b", *FASTER))
    assert found.verdict.startswith("qwen/b is better: output tokens/s +30.0% (+")
    (point,) = found.points
    assert point.of(TTFT) is not None
    assert {one.verdict for one in point.differences} == {"better"}


def test_the_slower_one_is_named_worse() -> None:
    assert compare(of("a", *FASTER), of("b", *STEADY)).verdict.startswith("qwen/b is worse: ")


def test_what_repeats_do_not_tell_apart_is_no_difference() -> None:
    found = compare(of("a", 1.0, 1.2, 0.8), of("b", 1.1, 0.85, 1.25))
    assert found.verdict.startswith("no difference beyond noise: a change of more than ")


def test_one_run_of_each_gives_no_verdict() -> None:
    found = compare(of("a", 1.0), of("b", 2.0))
    assert found.verdict == (
        "no verdict: one run says nothing of noise; measure both with --repeats 3 or more"
    )


def test_throughput_that_costs_latency_is_called_an_exchange() -> None:
    fast = measured(*FASTER)
    slow = tuple({**run, "mean_ttft_ms": 500.0} for run in fast.runs)
    after = result(name="b", points=[replace(fast, runs=slow)])
    text = compare(of("a", *STEADY), after).verdict
    assert text.startswith("qwen/b gives one for another: output tokens/s +30.0%")
    assert "; but time to first token +900.0%" in text


def test_faster_with_failed_requests_is_told_with_them() -> None:
    text = compare(of("a", *STEADY), of("b", *FASTER, completed=30)).verdict
    assert text.endswith("But requests of it failed: 30 (before: 0) with 8 at once")


def test_other_lengths_are_not_laid_side_by_side() -> None:
    found = compare(result(name="a"), result(name="b", load=Load(200, 20)))
    assert found.points == ()
    assert "100 + 20 tokens, qwen/b with 200 + 20 tokens" in found.notes[0]
    assert found.verdict == "no verdict: the two have no load in common"


def test_loads_that_one_alone_has_are_named() -> None:
    before = result(name="a", points=[measured(*STEADY), measured(*STEADY, concurrency=64)])
    found = compare(before, of("b", *STEADY))
    assert found.notes == ("qwen/a alone was measured with 64 at once",)
    assert len(found.points) == 1


def test_a_rate_is_judged_by_latency_alone() -> None:
    before = of("a", *STEADY, concurrency=None, rate=4.0)
    after = of("b", *FASTER, concurrency=None, rate=4.0)
    text = compare(before, after).verdict
    assert "time to first token" in text
    assert "output tokens/s" not in text


def test_what_changed_in_the_plan_is_said() -> None:
    def plan(seqs: int) -> Any:
        flag = Flag(name="--max-num-seqs", value=str(seqs), reason="")
        return make_plan(flags=[flag.to_json_object()])

    found = compare(result(name="a", plan=plan(16)), result(name="b", plan=plan(32)))
    assert found.plan == "max-num-seqs 16 -> 32"


def test_other_replicas_are_noted() -> None:
    assert compare(result(name="a"), result(name="b", replicas=2)).notes == ("replicas 1 -> 2",)


def test_scripts_get_the_same_as_json() -> None:
    document = compare(of("a", *STEADY), of("b", *FASTER)).to_json_object()
    (point,) = document["points"]
    figure = point["figures"][OUTPUT.name]
    assert figure["verdict"] == "better"
    assert figure["change"]["low"] < figure["change"]["share"] < figure["change"]["high"]


def test_the_figures_of_a_load_are_told_together() -> None:
    before, after = (
        result(name=name, points=[measured(*scales), measured(*scales, concurrency=64)])
        for name, scales in (("a", STEADY), ("b", FASTER))
    )
    text = compare(before, after).verdict
    assert text.count("with 8 at once") == 1
    assert text.count("with 64 at once") == 1
