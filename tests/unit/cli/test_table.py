"""The table of a plan, line by line."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from support.builders import make_plan
from vllm_operator.api.plan import Plan, Problem, Unplanned
from vllm_operator.cli.table import show_plans

GIBIBYTE = 1024**3
MEMORY = {
    "total": 100 * GIBIBYTE,
    "utilization": 0.9,
    "budget": 90 * GIBIBYTE,
    "weights": 30 * GIBIBYTE,
    "draftWeights": 6 * GIBIBYTE,
    "adapters": 4 * GIBIBYTE,
    "activationPeak": 8 * GIBIBYTE,
    "cudaGraphs": 2 * GIBIBYTE,
    "nonTorch": 1 * GIBIBYTE,
    "kvCache": {"expected": 49 * GIBIBYTE, "low": 44 * GIBIBYTE},
    "margin": 5 * GIBIBYTE,
    "outsideBudget": 3 * GIBIBYTE,
    "freeAtStart": {"expected": 95 * GIBIBYTE, "low": 94 * GIBIBYTE},
}
PERFORMANCE = {
    "promptTokens": 1024,
    "outputTokens": 256,
    "concurrency": 1200,
    "timeToFirstToken": 1.5,
    "interTokenLatency": 0.0305,
    "outputTokensPerSecond": 4567.8,
    "requestsPerSecond": 17.8,
    "napkinTokensPerSecond": 1234.5,
}
FLAGS = [
    {"name": "--port", "value": "8000", "reason": "the port of the Service"},
    {"name": "--enforce-eager", "reason": "pinned"},
]


def plan(**changes: Any) -> Plan:
    return make_plan(**{"memory": MEMORY, "flags": FLAGS, **changes})


def lines(*plans: Plan | Unplanned, width: int = 120) -> list[str]:
    written = io.StringIO()
    show_plans(Console(file=written, width=width), plans)
    return [line.strip() for line in written.getvalue().splitlines()]


def fact(name: str, **changes: Any) -> str:
    (found,) = [one for one in lines(plan(**changes), width=400) if one.startswith(name)]
    return found.removeprefix(name).strip()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model", "Qwen/Qwen2.5-7B-Instruct  (7.62 billion parameters, catalogue)"),
        ("engine", "vLLM 0.30.0  vllm/vllm-openai:v0.30.0"),
        ("GPUs", "2 x NVIDIA-H100-80GB-HBM3, tensor parallel 2, 1 node of 8"),
        ("requests", "up to 32,768 tokens each"),
        ("batch", "at most 256 requests and 8,192 tokens a step"),
        ("start", "about 120 s, given up after 900 s"),
    ],
)
def test_what_runs_is_said_fact_by_fact(name: str, said: str) -> None:
    assert fact(name) == said


def test_the_disk_is_said_where_weights_are_downloaded_to_it() -> None:
    storage = {"kind": "EmptyDir", "mode": "Cache", "surge": True, "diskBytes": 133 * GIBIBYTE}
    said = "133 GiB of the node's: each pod downloads the weights"
    assert fact("disk", storage=storage) == said


@pytest.mark.parametrize(
    ("source", "made"),
    [("fast", "from storage class fast"), (None, "from the default storage class")],
)
def test_a_volume_of_each_pod_s_own_is_said_with_its_class(source: str | None, made: str) -> None:
    given = {"kind": "Ephemeral", "mode": "Cache", "surge": True, "volumeBytes": 17 * GIBIBYTE}
    assert fact("volume", storage={**given, "source": source}) == f"17 GiB for each pod, {made}"


def test_the_cache_is_said_from_what_is_sure_to_what_is_likely() -> None:
    assert fact("KV cache  ", capacity=capacity()) == (
        "38,000 to 40,000 tokens: 19 to 20.5 such requests at once, more of shorter ones"
    )


def capacity() -> dict[str, Any]:
    return {
        **make_plan().to_json_object()["capacity"],
        "kvTokens": {"expected": 40000, "low": 38000},
        "maxConcurrency": {"expected": 20.5, "low": 19.0},
    }


def place(**changes: Any) -> dict[str, Any]:
    return {**make_plan().to_json_object()["placement"], **changes}


def test_a_division_is_said_part_by_part() -> None:
    divided = place(pipeline=2, data=3, expert=True, nodes=2, gpusPerReplica=12)
    assert fact("GPUs", placement=divided) == (
        "12 x NVIDIA-H100-80GB-HBM3, tensor parallel 2, pipeline parallel 2, data parallel 3, "
        "whole experts, 2 nodes of 8"
    )


def test_with_several_engines_figures_are_those_of_each() -> None:
    divided = place(data=2)
    each = " in each data-parallel rank"
    assert fact("batch", placement=divided).endswith(f"8,192 tokens a step{each}")
    told = fact("KV cache  ", placement=divided, capacity=capacity())
    assert f"40,000 tokens{each}: " in told


def test_a_replica_on_several_nodes_says_what_it_needs_and_one_on_a_node_does_not() -> None:
    note = (
        "One replica takes 2 nodes. The operator runs it as a LeaderWorkerSet, an API that the "
        "cluster must have."
    )
    assert note in lines(plan(placement=place(nodes=2)), width=200)
    assert not [one for one in lines(plan()) if one.startswith("One replica")]


def test_the_speed_is_said_beside_that_on_a_napkin() -> None:
    assert fact("speed", performance=PERFORMANCE) == (
        "about 4,568 output tokens a second (17.8 requests/s) with 1,200 requests of 1024 + 256 "
        "tokens at once; 1.5 s to the first token, 30.5 ms between tokens"
    )
    assert fact("on a napkin", performance=PERFORMANCE).startswith("at most 1,234 tokens a second")
    assert not [one for one in lines(plan()) if one.startswith(("speed", "on a napkin"))]


def test_beside_each_figure_of_the_speed_stands_where_nine_of_ten_measurements_lie() -> None:
    ranges = {
        "timeToFirstToken": {"low": 0.9, "high": 2.5},
        "interTokenLatency": {"low": 0.024, "high": 0.0388},
        "outputTokensPerSecond": {"low": 3600, "high": 5800},
    }
    assert fact("speed", performance={**PERFORMANCE, "ranges": ranges}) == (
        "about 4,568 output tokens a second (3,600 to 5,800; 17.8 requests/s) with 1,200 requests "
        "of 1024 + 256 tokens at once; 1.5 s (900 ms to 2.5 s) to the first token, 30.5 ms "
        "(24 ms to 38.8 ms) between tokens"
    )


@pytest.mark.parametrize(("seconds", "said"), [(1.0, "1 s"), (0.999, "999 ms")])
def test_less_than_a_second_is_said_in_milliseconds(seconds: float, said: str) -> None:
    performance = {**PERFORMANCE, "timeToFirstToken": seconds}
    assert f"; {said} to the first token" in fact("speed", performance=performance)


PARTS = [
    "██  weights                   20.00 GiB  20.0%",
    "▙▙  draft, to speculate        6.00 GiB   6.0%",
    "▛▛  LoRA adapters              4.00 GiB   4.0%",
    "▓▓  activation peak            8.00 GiB   8.0%",
    "▒▒  CUDA graphs                2.00 GiB   2.0%",
    "▚▚  other, inside the budget   1.00 GiB   1.0%",
    "##  KV cache, sure            44.00 GiB  44.0%",
    "++  KV cache, likely           5.00 GiB   5.0%",
    "░░  outside the budget         3.00 GiB   3.0%",
    "··  left free                  7.00 GiB   7.0%",
]


def test_every_part_of_a_gpu_s_memory_has_its_line() -> None:
    shown = lines(plan())
    begin = shown.index("Memory of one NVIDIA-H100-80GB-HBM3")
    assert shown[begin + 2 : begin + 12] == PARTS
    assert shown[begin + 12] == "90.00 GiB for the engine: 0.9 of 100.00 GiB"


def test_a_part_that_takes_nothing_has_no_line() -> None:
    plain = {**MEMORY, "draftWeights": 0, "adapters": 0, "outsideBudget": 10 * GIBIBYTE}
    shown = lines(plan(memory=plain))
    assert not [one for one in shown if one.startswith(("▙", "▛", "··"))]
    assert "██  weights                   30.00 GiB  30.0%" in shown


def bar(width: int) -> dict[str, int]:
    shown = lines(plan(), width=width)
    drawn = next(line for line in shown if "█▙" in line)
    return {mark: drawn.count(mark) for mark in dict.fromkeys(drawn)}


def test_the_bar_has_a_cell_for_each_part_and_the_others_by_size() -> None:
    # 96 cells, of which 86 are shared out: 17.2, 5.16, 3.44, 6.88, 1.72, 0.86, 37.84, 4.3, 2.58,
    # 6.02; the four largest remainders get one more.
    sizes = [18, 6, 4, 8, 3, 2, 39, 5, 4, 7]
    assert bar(200) == dict(zip("█▙▛▓▒▚#+░·", sizes, strict=True))
    assert bar(98) == bar(200)
    assert sum(bar(97).values()) == 95


def test_the_bar_shows_every_part_on_the_narrowest_terminal() -> None:
    assert set(bar(12).values()) == {1}


def test_arguments_stand_with_value_and_reason_in_three_columns() -> None:
    shown = lines(plan(), width=100)
    begin = shown.index("Arguments of vllm serve")
    assert [re.split(" {2,}", line) for line in shown[begin + 1 : begin + 4]] == [
        ["argument", "value", "why"],
        ["--port", "8000", "the port of the Service"],
        ["--enforce-eager", "pinned"],
    ]


def test_below_100_columns_the_reason_stands_under_its_argument() -> None:
    shown = lines(plan(), width=99)
    begin = shown.index("Arguments of vllm serve")
    assert shown[begin + 1 : begin + 5] == [
        "--port 8000",
        "the port of the Service",
        "--enforce-eager",
        "pinned",
    ]


def test_layouts_that_were_not_taken_are_named_as_short_as_they_are() -> None:
    one = {"gpu": "H100", "tensor": 2, "pipeline": 1, "nodes": 1, "reason": "too small"}
    other = {**one, "pipeline": 2, "nodes": 3, "reason": "too slow"}
    shown = lines(plan(rejected=[one, other]))
    rows = shown[shown.index("Layouts that were not taken") + 2 :]
    assert [" ".join(row.split()) for row in rows] == [
        "H100 TP2 too small",
        "H100 TP2 x PP2, 3 nodes too slow",
    ]
    assert "Layouts that were not taken" not in lines(plan())


def unplanned(name: str) -> Unplanned:
    return Unplanned(
        schema_version=1,
        inputs_hash="abc",
        name=name,
        namespace="team",
        feasible=False,
        problems=[Problem(field="spec.gpu", reason="UnknownGPU", message="no such GPU")],
    )


def test_what_cannot_be_planned_says_each_problem_with_its_field() -> None:
    shown = lines(unplanned("chat"), width=60)
    assert shown[0].strip("─ ") == "team/chat"
    assert "cannot be planned" in shown[1]
    assert [line.strip("│ ") for line in shown[2:4]] == ["spec.gpu  UnknownGPU", "no such GPU"]


def test_a_server_without_a_name_is_called_so_and_plans_stand_apart() -> None:
    shown = lines(unplanned(""), unplanned("b"))
    assert shown[0].strip("─ ") == "a server without a name"
    second = next(number for number, line in enumerate(shown) if "team/b" in line)
    assert shown[second - 1] == ""
    assert shown[0] != ""
