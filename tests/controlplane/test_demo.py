"""The demo: that it tells its story, and that it says so where it cannot."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localcluster.demo import NEWER_IMAGE
from localcluster.demo_terminal import DemoError, Shell, Terminal
from localcluster.waiting import wait_until

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DEMO = [sys.executable, "-m", "localcluster.demo"]
FAILING = """
import sys
from localcluster import demo
demo.Demo.chapters = lambda self: [lambda: self._shell.run("kubectl get vllm", expect="qwen")]
sys.exit(demo.main())
"""


def environment(temporary: Path) -> dict[str, str]:
    python_path = os.pathsep.join([str(ROOT / "operator"), str(ROOT / "tools")])
    return {**os.environ, "PYTHONPATH": python_path, "TMPDIR": str(temporary)}


def run(command: list[str], temporary: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment(temporary),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def listing(text: str) -> list[list[str]]:
    """Words of the first listing of servers, but for their age."""
    _, _, after = text.partition("$ kubectl get vllm\n")
    return [line.split()[:-1] for line in after.splitlines()[:2]]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    programs = {"kubectl": [sys.executable, "-c", "import sys; print(sys.argv[1:])"]}
    return Shell(Terminal(), tmp_path, tmp_path / "bin", programs, {"GREETING": "hello"})


def test_the_demo_tells_what_the_readme_shows_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ended = run(DEMO, tmp_path)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr
    assert ended.stderr == ""
    for words in (
        "No container is started, no vLLM runs",
        "$ kubectl apply -f examples/01-minimal.yaml",
        "condition met",
        "spec.engine.gpuMemoryUtilization",
        "Infeasible",
        "What works: ",
        "no difference",
        "ScaledToZero",
        "writes since settled: 0",
        f"-> {NEWER_IMAGE}; change the annotation",
    ):
        assert words in ended.stdout
    assert re.search(r"^qwen +Qwen/Qwen2.5-7B-Instruct .* 1/1 +Ready ", ended.stdout, re.MULTILINE)
    assert "\x1b" not in ended.stdout  # plain text where nobody watches
    assert list(tmp_path.iterdir()) == []

    assert listing(README.read_text()) == listing(ended.stdout)


def test_a_step_that_fails_says_what_was_expected_what_was_seen_and_where_the_logs_are(
    tmp_path: Path,
) -> None:
    ended = run([sys.executable, "-c", FAILING], tmp_path)
    assert ended.returncode == 1
    _, _, report = ended.stdout.partition("FAILED: kubectl get vllm\n")
    assert "output that matches qwen" in report
    assert "No resources found" in report
    found = re.search(r"logs of the local cluster: (\S+)", report)
    assert found is not None
    assert {log.name for log in Path(found[1]).iterdir()} >= {"operator.log", "kube-apiserver.log"}


def test_ctrl_c_ends_the_demo_and_removes_everything(tmp_path: Path) -> None:
    output = tmp_path / "output"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with output.open("wb") as sink:
        demo = subprocess.Popen(
            DEMO, env=environment(temporary), stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        wait_until(lambda: "$ kubectl apply" in output.read_text(), "the first command", 120)
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(60) == 130
    finally:
        demo.kill()
        demo.wait()
    assert "Traceback" not in output.read_text()
    assert list(temporary.iterdir()) == []


def test_a_command_is_printed_as_it_runs_and_then_its_output(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run("kubectl get vllm | tr a-z A-Z && echo $GREETING")
    assert capsys.readouterr().out == (
        "\n$ kubectl get vllm | tr a-z A-Z && echo $GREETING\n['GET', 'VLLM']\nhello\n"
    )


def test_a_command_that_ends_with_another_status_stops_the_demo(shell: Shell) -> None:
    with pytest.raises(DemoError) as caught:
        shell.run("echo why; exit 3")
    assert caught.value.expected == "status 0"
    assert caught.value.seen == "status 3\nwhy\n"


def test_a_command_that_is_meant_to_fail_must_fail(shell: Shell) -> None:
    shell.run("exit 1", status=1)
    with pytest.raises(DemoError):
        shell.run("true", status=1)


def test_a_command_that_hangs_stops_the_demo(shell: Shell) -> None:
    with pytest.raises(DemoError, match="sleep 60") as caught:
        shell.run("echo begun; exec sleep 60", timeout=0.5)
    assert caught.value.expected == "an end within 0.5 s"
    assert "begun" in caught.value.seen
