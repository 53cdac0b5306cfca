"""The benchmark's own script runs vLLM's `bench serve` against the real engine, and tells settings
apart."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from realengine.environments import Environment
from realengine.server import Server
from support.builders import server_manifest
from support.scripts import log_of
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.benchmark.arguments import runs_of, shared
from vllm_operator.benchmark.comparison import Comparison, compare
from vllm_operator.benchmark.job import about
from vllm_operator.benchmark.load import Load, Point
from vllm_operator.benchmark.results import OUTPUT, REQUESTS, TTFT, Measured, Result, read_log
from vllm_operator.tuning.comparison import FLOOR

pytestmark = pytest.mark.timeout(1200)

LOAD = Load(prompt_tokens=64, output_tokens=32)
POINT = Point(prompts=16, concurrency=8)
REPEATS = 5
BY_HAND = 2


def measure(environment: Environment, plan: Plan, server: Server, model: Path, name: str) -> Result:
    """What the Job's script prints where its Service is that server."""
    manifest = server_manifest(model={"id": "tiny/llama"})
    begun = about(VLLMServer.model_validate(manifest), plan, name, "2026-01-01T00:00:00Z", LOAD, [])
    begun = replace(begun, points=(Measured(POINT, ()),))
    arguments, runs = shared(runs_of(plan, server.url, LOAD, [POINT], REPEATS, name))
    given = {
        "about": begun.to_json_object(),
        "tokenizer": {"name": str(model)},
        "arguments": arguments,
        "runs": runs,
    }
    progress = read_log(log_of(environment, "measure.py", given))
    assert progress.done
    assert progress.result is not None
    return progress.result


def command(plan: Plan, model: Path, seqs: int) -> list[str]:
    """The plan's command for the model on the disk, with another limit of requests at once."""
    found = [str(model) if one == "tiny/llama" else one for one in plan.engine.command]
    found[found.index("--max-num-seqs") + 1] = str(seqs)
    return [*found, "--kv-cache-memory-bytes", "64000000"]


def with_seqs(plan: Plan, seqs: int) -> Plan:
    """The plan that says so."""
    flags = [
        one.model_copy(update={"value": str(seqs)}) if one.name == "--max-num-seqs" else one
        for one in plan.flags
    ]
    return plan.model_copy(update={"flags": flags})


def by_hand(environment: Environment, server: Server, model: Path, folder: Path) -> float:
    """Output tokens a second of one run, as somebody types the command after vLLM's own page."""
    command = [
        *(str(environment.vllm), "bench", "serve", "--base-url", server.url),
        *("--endpoint", "/v1/completions", "--model", "tiny", "--tokenizer", str(model)),
        *("--dataset-name", "random", "--ignore-eos", "--temperature", "0"),
        *("--random-input-len", "64", "--random-output-len", "32"),
        *("--num-prompts", "16", "--max-concurrency", "8", "--request-rate", "inf"),
        *("--seed", str(len(list(folder.iterdir())) + 1000)),
        *("--save-result", "--result-dir", str(folder)),
    ]
    ended = subprocess.run(
        command, env=environment.variables(), capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return float(json.loads(newest.read_text())["output_throughput"])


@dataclass(frozen=True)
class Told:
    """What the product says of two settings, and what runs by hand say of the second."""

    compared: Comparison
    by_hand: list[float]


@pytest.fixture(scope="module")
def told(
    environment: Environment,
    models: Path,
    planned: Plan,
    tmp_path_factory: pytest.TempPathFactory,
) -> Told:
    """One request at a time, and eight, under a load of eight at once; measured one by one."""
    model = models / "llama"
    servers = {seqs: Server(environment, command(planned, model, seqs)) for seqs in (1, 8)}
    with ExitStack() as open_ones:
        for server in servers.values():
            open_ones.callback(server.close)
        with ThreadPoolExecutor() as both:
            list(both.map(lambda server: server.start(timeout=600), servers.values()))
        folder = tmp_path_factory.mktemp("by-hand")

        def measured(seqs: int) -> Result:
            plan = with_seqs(planned, seqs)
            return measure(environment, plan, servers[seqs], model, f"seqs-{seqs}")

        def hand() -> list[float]:
            return [by_hand(environment, servers[8], model, folder) for _ in range(BY_HAND)]

        # By hand before and after what it is compared with: a machine's speed drifts.
        results = [measured(1)]
        before = hand()
        results.append(measured(8))
        after = hand()
    return Told(compare(*results), [*before, *after])


@pytest.fixture(scope="module")
def compared(told: Told) -> Comparison:
    return told.compared


def test_every_run_has_its_requests_and_their_tokens(compared: Comparison) -> None:
    for result in (compared.before, compared.after):
        (measured,) = result.points
        assert len(measured.runs) == REPEATS
        assert measured.failed == 0
        for run in measured.runs:
            assert run["completed"] == POINT.prompts
            assert run["total_output_tokens"] == POINT.prompts * LOAD.output_tokens
            # Random tokens are sent as text, which may be read as a few more or less.
            asked = POINT.prompts * LOAD.prompt_tokens
            assert run["total_input_tokens"] == pytest.approx(asked, rel=0.05)


def test_the_setting_with_more_requests_at_once_is_named_the_better_one(
    compared: Comparison,
) -> None:
    assert compared.plan == "max-num-seqs 1 -> 8"
    (point,) = compared.points
    for figure in (OUTPUT, TTFT):
        found = point.of(figure)
        assert found is not None
        assert found.verdict == "better", compared.verdict
    # The comparison names it; what eight at once cost a single request stands beside it.
    assert "seqs-8" in compared.verdict


def test_the_figures_agree_with_each_other(compared: Comparison) -> None:
    """Output tokens a second are requests a second, each of so many tokens."""
    (measured,) = compared.after.points
    for run in measured.runs:
        assert run[OUTPUT.name] == pytest.approx((run[REQUESTS.name] or 0) * LOAD.output_tokens)


def test_the_figures_are_within_those_of_vllms_own_command_run_by_hand(told: Told) -> None:
    """Runs by hand before and after it span what the machine's own speed does meanwhile."""
    (measured,) = told.compared.after.points
    found = measured.values(OUTPUT.name)
    assert min(found) <= max(told.by_hand) * (1 + FLOOR), (told.by_hand, found)
    assert max(found) >= min(told.by_hand) * (1 - FLOOR), (told.by_hand, found)
