"""``vllm-operator check`` of files: what it prints, and with which status it ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from support.builders import make_plan, server_manifest
from vllm_operator.cli.checking import Asked, completion_at, completion_of, read_answer
from vllm_operator.cli.cluster import Reader
from vllm_operator.cli.live import read
from vllm_operator.cli.main import main
from vllm_operator.cli.sources import MetricsOptions


def check(*arguments: str, body: dict[str, Any] | None = None) -> Result:
    given = yaml.safe_dump(body or server_manifest())
    options = ["--offline", "--gpu", "H100"]
    return CliRunner().invoke(
        main, ["check", "-", *options, *arguments], input=given, env={"COLUMNS": "120"}
    )


def test_a_manifest_that_warns_passes_in_a_pipeline_and_not_where_warnings_count() -> None:
    assert "replicas" in check().output
    assert check().exit_code == 0
    assert check("--strict").exit_code == 1


def test_a_check_that_fails_ends_with_1() -> None:
    assert check(body=server_manifest(replicas=0)).exit_code == 1


def test_a_warning_names_the_field_that_changes_it() -> None:
    found = check(body=server_manifest(engine={"gpuMemoryUtilization": 0.8}))
    assert "spec.engine.gpuMemoryUtilization" in found.output


def test_a_manifest_that_cannot_be_planned_fails_with_the_planners_words() -> None:
    found = check(body=server_manifest(engine={"maxModelLen": 1_000_000}))
    assert found.exit_code == 1
    assert "and the model's own limit is 32768" in found.output
    assert "spec.engine.maxModelLen" in found.output


def test_every_check_is_there_for_scripts() -> None:
    body = server_manifest(replicas=2)
    (found,) = json.loads(check("-o", "json", body=body).output)
    assert (found["namespace"], found["name"]) == ("default", "qwen")
    checks = {one["check"]: one for one in found["checks"]}
    assert len(checks) == 12
    assert checks["disruption budget"]["outcome"] == "pass"
    assert checks["objective"]["field"] == "spec.workload.slo"


def test_what_cannot_be_read_ends_with_2(tmp_path: Path) -> None:
    missing = CliRunner().invoke(main, ["check", str(tmp_path / "none.yaml")])
    assert missing.exit_code == 2
    assert "No such file" in missing.output
    nowhere = CliRunner().invoke(main, ["check", "qwen"], env={"KUBECONFIG": str(tmp_path / "no")})
    assert nowhere.exit_code == 2
    assert "set KUBECONFIG" in nowhere.output


@pytest.mark.parametrize("command", [["check", "qwen"], ["top"], ["explain", "qwen"]])
@pytest.mark.parametrize("content", [b"contexts: [", b"\xff\xfe"], ids=["YAML", "UTF-8"])
def test_a_kubeconfig_that_cannot_be_read_is_told_by_its_name(
    tmp_path: Path, command: list[str], content: bytes
) -> None:
    path = tmp_path / "config"
    path.write_bytes(content)
    found = CliRunner().invoke(main, command, env={"KUBECONFIG": str(path)})
    assert found.exit_code == 2
    assert f"Error: KUBECONFIG {path} cannot be read" in found.output


def test_a_key_file_that_is_no_text_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xff\xfe")
    found = CliRunner().invoke(main, ["check", "qwen", "--api-key-file", str(path)])
    assert found.exit_code == 2
    assert f"Error: --api-key-file {path}" in found.output


async def test_a_completion_is_skipped_where_pods_may_not_be_listed() -> None:
    live = replace(read(server_manifest()), no_pods="you may not list pods")
    found = await completion_of(Reader(None), live, make_plan(), Asked(MetricsOptions()))
    assert (found.missing, found.problem) == ("you may not list pods", "")


class Engine(BaseHTTPRequestHandler):
    """Answers whoever has the key, and asks for the model that it serves."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        allowed = self.headers.get("Authorization") == "Bearer key"
        status = 401 if not allowed else 404 if asked["model"] != "qwen" else 200
        answer = {
            "choices": [{"text": " yes"}],
            "usage": {"completion_tokens": asked["max_tokens"]},
        }
        body = json.dumps(answer if status == 200 else {"error": "not so"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def engine() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Engine) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()
        thread.join()


def test_an_address_is_asked_with_the_key_and_with_or_without_its_path(engine: str) -> None:
    for address in (engine, f"{engine}/v1", f"{engine}/v1/"):
        found = completion_at(address, "qwen", "key")
        assert (found.tokens, found.problem) == (5, "")
        assert found.way == f"from {address}"


@pytest.mark.parametrize(("model", "key", "said"), [("qwen", None, "401"), ("other", "key", "404")])
def test_what_an_address_says_instead_is_told(
    engine: str, model: str, key: str | None, said: str
) -> None:
    assert f"no completion came: {said}" in completion_at(engine, model, key).problem


def test_an_address_that_nobody_answers_is_told() -> None:
    assert "no completion came" in completion_at("http://127.0.0.1:1", "qwen").problem


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ('{"choices": [{"text": " yes"}], "usage": {"completion_tokens": 5}}', ""),
        ('{"choices": [{"text": ""}], "usage": {"completion_tokens": 0}}', "has no token"),
        ('{"error": {"message": "no such model"}}', "no such model"),
        ("<html>503</html>", "503"),
    ],
)
def test_only_tokens_are_an_answer(answer: str, problem: str) -> None:
    found = read_answer(answer.encode(), 0.5)
    assert problem in found.problem
    assert (found.tokens > 0) is (problem == "")
