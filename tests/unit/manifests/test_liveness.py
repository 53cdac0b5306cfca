"""The liveness script: what it reads of /metrics, and when it wants a restart.

The texts under ``metrics`` are those of vLLM 0.32's CPU build, without the metrics that nobody asks
for: idle, twice busy with four requests, and twice after its engine core was stopped by SIGSTOP.
"""

from __future__ import annotations

import ast
import http.server
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vllm_operator.engine.versions import NEWEST_KNOWN, OLDEST
from vllm_operator.manifests import probes
from vllm_operator.manifests.probes import liveness_command, liveness_script

RECORDED = Path(__file__).parent / "metrics"
BUDGET = 300.0
SCRIPT = Path(probes.__file__).parent / "scripts" / "liveness.py"


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("liveness", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


liveness = _loaded()


def given(version: str = "0.32.0") -> dict[str, Any]:
    return dict(json.loads(liveness_command(version, 8000, 300)[-1]))


def engines(name: str) -> dict[str, Any]:
    text = (RECORDED / f"vllm-0.32-{name}.txt").read_text()
    return dict(liveness.engines_in(text, given()["running"], given()["moving"]))


def looked(*samples: tuple[float, dict[str, Any] | None]) -> str:
    """The last verdict after looks at these times."""
    state, why = None, ""
    for now, sample in samples:
        state, why = liveness.decide(state, sample, now, BUDGET)
    return str(why)


def test_the_recorded_engine_runs_four_requests() -> None:
    assert engines("busy-1")["0"][0] == "4.0"
    assert engines("idle")["0"][0] == "0.0"


def test_a_hung_engine_is_seen_once_the_budget_has_passed() -> None:
    hung = [(0.0, engines("hung-1")), (299.0, engines("hung-2"))]
    assert looked(*hung) == ""
    why = looked(*hung, (300.0, engines("hung-2")))
    assert why == "engine 0 has 4 requests running, moved by no step for 300 s"


def test_a_busy_engine_is_left_alone_however_long_it_is_busy() -> None:
    busy = [engines("busy-1"), engines("busy-2")]
    looks = [(100.0 * number, busy[number % 2]) for number in range(50)]
    assert looked(*looks) == ""


def test_an_idle_engine_is_left_alone_however_long_it_is_idle() -> None:
    assert looked(*((100.0 * number, engines("idle")) for number in range(50))) == ""


def test_requests_that_come_after_a_long_idle_time_have_the_whole_budget() -> None:
    looks = [(0.0, engines("idle")), (1000.0, engines("idle")), (1015.0, engines("hung-1"))]
    assert looked(*looks, (1300.0, engines("hung-1"))) == ""
    assert looked(*looks, (1315.0, engines("hung-1"))) != ""


@pytest.mark.parametrize(
    "name", ["prompt_tokens_total", "iteration_tokens_total_count", "kv_cache_usage_perc"]
)
def test_one_figure_that_moves_is_enough(name: str) -> None:
    text = (RECORDED / "vllm-0.32-hung-1.txt").read_text()
    line = next(line for line in text.splitlines() if line.startswith(f"vllm:{name}{{"))
    moved = text.replace(line, line.rpartition(" ")[0] + " 0.5")
    after = liveness.engines_in(moved, given()["running"], given()["moving"])
    assert looked((0.0, engines("hung-1")), (400.0, after)) == ""


def test_one_hung_engine_among_busy_ones_is_seen() -> None:
    def two(first: str, second: str) -> dict[str, Any]:
        return {"0": engines(first)["0"], "1": engines(second)["0"]}

    looks = [(0.0, two("busy-1", "hung-1")), (300.0, two("busy-2", "hung-1"))]
    assert looked(*looks).startswith("engine 1 has 4 requests running")


def test_a_server_that_does_not_answer_has_the_same_budget() -> None:
    assert looked((0.0, engines("idle")), (299.0, None)) == ""
    assert looked((0.0, engines("idle")), (300.0, None)) == "no answer on the HTTP port for 300 s"


def test_one_answer_ends_the_silence() -> None:
    assert looked((0.0, None), (290.0, engines("idle")), (580.0, None)) == ""


def test_a_first_look_is_never_a_reason() -> None:
    assert looked((1e9, None)) == ""
    assert looked((1e9, engines("hung-1"))) == ""


def test_metrics_without_an_engine_s_label_are_those_of_one_engine() -> None:
    text = 'vllm:num_requests_running{model_name="a"} 2.0\nvllm:prompt_tokens_total 5\n'
    found = liveness.engines_in(text, "vllm:num_requests_running", ["vllm:prompt_tokens_total"])
    assert found == {"": ["2.0", "2.0 5"]}


def test_an_answer_without_the_metric_says_nothing_against_the_engine() -> None:
    silent = liveness.engines_in("# nothing\n", "vllm:num_requests_running", [])
    assert silent == {}
    assert looked((0.0, silent), (1000.0, silent)) == ""


@pytest.mark.parametrize(("version", "name"), [
    (str(OLDEST), "vllm:gpu_cache_usage_perc"),
    (str(NEWEST_KNOWN), "vllm:kv_cache_usage_perc"),
])  # fmt: skip
def test_the_names_are_those_of_the_version(version: str, name: str) -> None:
    assert name in given(version)["moving"]
    assert "vllm:iteration_tokens_total_count" in given(version)["moving"]


def test_a_state_of_another_start_or_of_long_ago_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text(json.dumps({"start": "7", "seen": 100.0, "answered": 100.0, "engines": {}}))
    assert liveness.remembered(str(path), "7", 150.0, 60) is not None
    assert liveness.remembered(str(path), "8", 150.0, 60) is None
    assert liveness.remembered(str(path), "7", 161.0, 60) is None
    assert liveness.remembered(str(path), "7", 99.0, 60) is None
    assert liveness.remembered(str(tmp_path / "none"), "7", 150.0, 60) is None


# The whole script, as a kubelet runs it


class Served:
    """What stands in for vLLM's port: an answer by path, none while it is deaf."""

    def __init__(self) -> None:
        self.answers = {"/health": (200, ""), "/metrics": (200, "")}
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = served.answers[self.path]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def say(self, name: str) -> None:
        self.answers["/metrics"] = (200, (RECORDED / f"vllm-0.32-{name}.txt").read_text())


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.server.shutdown()
    found.server.server_close()


def attempt(served: Served, tmp_path: Path, **changes: Any) -> tuple[int, str]:
    program, *rest = liveness_command("0.32.0", served.server.server_address[1], 300)
    assert program == "python3"
    arguments = {**json.loads(rest[-1]), "state": str(tmp_path / "state"), **changes}
    ended = subprocess.run(
        [sys.executable, *rest[:-1], json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


def test_the_script_lets_a_busy_engine_live(served: Served, tmp_path: Path) -> None:
    for name in ("busy-1", "busy-2"):
        served.say(name)
        assert attempt(served, tmp_path, budget=0.0001) == (0, "")


def test_the_script_ends_a_hung_engine_with_the_reason(served: Served, tmp_path: Path) -> None:
    served.say("hung-1")
    assert attempt(served, tmp_path) == (0, "")
    code, why = attempt(served, tmp_path, budget=0.0001)
    assert code == 1
    assert why.startswith("engine 0 has 4 requests running")


def test_an_engine_that_says_it_is_dead_does_not_answer(served: Served, tmp_path: Path) -> None:
    served.say("idle")
    assert attempt(served, tmp_path) == (0, "")
    served.answers["/health"] = (503, "")
    code, why = attempt(served, tmp_path, budget=0.0001)
    assert (code, why[:27]) == (1, "no answer on the HTTP port ")


def test_a_script_that_cannot_keep_its_state_ends_nothing(served: Served, tmp_path: Path) -> None:
    code, said = attempt(served, tmp_path, state=str(tmp_path / "missing" / "state"))
    assert code == 0
    assert said.startswith("liveness is not known: FileNotFoundError")


def test_the_script_is_plain_enough_for_every_python_of_an_image() -> None:
    ast.parse(liveness_script(), feature_version=(3, 9))
    assert len(liveness_script()) < 6000


def test_one_look_that_does_not_end_restarts_nothing() -> None:
    probe = probes.probes("0.32.0", 8000, 900, 300)["liveness_probe"]
    assert probe["failureThreshold"] >= 4
    assert probe["timeoutSeconds"] > given()["patience"]
