"""``vllm-operator run`` as far as it comes without a cluster."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vllm_operator.cli import run
from vllm_operator.cli.main import main
from vllm_operator.controller import process
from vllm_operator.hardware.prices import Prices
from vllm_operator.sizing.asked.defaults import Defaults

NAMELESS = """\
import pwd
def getpwuid(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = getpwuid
from vllm_operator.cli.main import main
main(["run", "--listen="])
"""


def test_it_needs_neither_the_name_nor_the_home_of_its_user() -> None:
    missing = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "KUBERNETES_SERVICE_HOST")
    variables = {name: value for name, value in os.environ.items() if name not in missing}
    variables["KUBECONFIG"] = "/proc/no-such-file"
    answer = subprocess.run(
        [sys.executable, "-c", NAMELESS], env=variables, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert "vllm-operator: Invalid kube-config file" in answer.stderr


GIVEN = Defaults.model_validate({"engine": {"env": [{"name": "A", "value": "b"}]}})
DEFAULTS = {
    "namespaces": (),
    "watch_nodes": True,
    "default_image": "",
    "listen": "0.0.0.0:8080",
    "leader_election": False,
    "lease_namespace": "default",
    "lease_name": "vllm-operator",
    "lease_seconds": 15,
    "hub": True,
    "hub_token": None,
    "hub_token_namespaces": (),
    "host_path_prefixes": (),
    "pod_identity": "Fixed",
    "defaults": Defaults(),
    "defaults_problem": "",
    "prices": Prices(),
    "calibration": False,
    "resync_seconds": 600.0,
    "workers": 24,
    "tuning_max_concurrent_trials": 3,
    "tuning_may_preempt": False,
    "drain_seconds": 20.0,
}


class Runs:
    """Stands for the process: notes how it is to run, or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings: dict[str, Any] = {}
        self.instance = ""
        self.error: Exception | None = None
        for name in ("POD_NAMESPACE", "POD_NAME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(process, "run_operator", self.run)

    async def run(self, settings: Any, instance: str) -> None:
        if self.error is not None:
            raise self.error
        self.settings = {name: getattr(settings, name) for name in DEFAULTS}
        self.instance = instance

    def with_options(self, *options: str) -> Result:
        return CliRunner().invoke(main, ["run", *options])


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    root, own = logging.getLogger(), logging.getLogger("vllm_operator")
    handlers, level, own_level = root.handlers[:], root.level, own.level
    yield Runs(monkeypatch)
    root.handlers[:] = handlers
    root.setLevel(level)
    own.setLevel(own_level)


def test_without_options_it_runs_as_documented(runs: Runs) -> None:
    assert runs.with_options().exit_code == 0
    assert runs.settings == DEFAULTS


@pytest.mark.parametrize(
    ("option", "changed"),
    [
        ("--namespaces=a, b,", {"namespaces": ("a", "b")}),
        ("--watch-nodes=false", {"watch_nodes": False}),
        ("--default-image=i", {"default_image": "i"}),
        ("--listen=", {"listen": ""}),
        ("--leader-election=true", {"leader_election": True}),
        ("--lease-namespace=n", {"lease_namespace": "n"}),
        ("--lease-seconds=3", {"lease_seconds": 3}),
        ("--lease-seconds=300", {"lease_seconds": 300}),
        ("--hub=false", {"hub": False}),
        ("--hub-token-namespaces=n", {"hub_token_namespaces": ("n",)}),
        ("--host-path-prefixes=/a,/b", {"host_path_prefixes": ("/a", "/b")}),
        ("--pod-identity=Platform", {"pod_identity": "Platform"}),
        ('--defaults={"engine": {"env": [{"name": "A", "value": "b"}]}}', {"defaults": GIVEN}),
        (
            '--prices={"currency": "EUR", "perGPUHour": {"L4": 0.7}}',
            {"prices": Prices("EUR", (("L4", 0.7),))},
        ),
        ("--calibration=true", {"calibration": True}),
        ("--resync-seconds=10", {"resync_seconds": 10.0}),
        ("--workers=1", {"workers": 1}),
        ("--tuning-max-concurrent-trials=0", {"tuning_max_concurrent_trials": 0}),
        ("--tuning-may-preempt=true", {"tuning_may_preempt": True}),
        ("--workers=64", {"workers": 64}),
    ],
)
def test_an_option_sets_what_it_says_and_nothing_else(
    runs: Runs, option: str, changed: dict[str, Any]
) -> None:
    assert runs.with_options(option).exit_code == 0
    assert runs.settings == {**DEFAULTS, **changed}


@pytest.mark.parametrize(
    "option",
    ["--lease-seconds=2", "--lease-seconds=301", "--resync-seconds=9", "--workers=0",
     "--workers=65", "--tuning-max-concurrent-trials=-1", "--log-format=xml",
     "--log-level=trace", "--hub-token-file=/no/such/file"],
)  # fmt: skip
def test_an_option_out_of_bounds_is_refused(runs: Runs, option: str) -> None:
    assert runs.with_options(option).exit_code == 2
    assert runs.settings == {}


def test_defaults_of_servers_that_are_wrong_are_logged_and_do_not_end_the_process(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = '{"pod": {"tolerations": [{}], "hostNetwork": true}}'
    assert runs.with_options(f"--defaults={wrong}").exit_code == 0
    assert runs.settings["defaults"] == Defaults()
    assert runs.settings["defaults_problem"] == (
        "the operator's chart value defaults.pod.tolerations[0] is wrong: a toleration without a "
        "key matches every taint; set its operator to Exists (and 1 more); no server gets a new "
        "plan until it is corrected"
    )


def test_one_wrong_default_is_told_alone(runs: Runs) -> None:
    assert runs.with_options('--defaults={"pod": {"hostNetwork": true}}').exit_code == 0
    told = runs.settings["defaults_problem"]
    assert told.startswith("the operator's chart value defaults.pod.hostNetwork is wrong: ")
    assert "more)" not in told


def test_prices_that_are_wrong_are_logged_and_none_is_known(
    runs: Runs, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "configure_logging", lambda *_: None)
    assert runs.with_options('--prices={"perGPUHour": {"L4": 0}}').exit_code == 0
    assert runs.settings["prices"] == Prices()
    (told,) = [one.getMessage() for one in caplog.records if "prices" in one.getMessage()]
    assert told.startswith("the operator's chart value prices.perGPUHour[L4] is wrong, ")


def test_the_hub_s_token_is_read_from_its_file(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_secret\n")
    runs.with_options(f"--hub-token-file={tmp_path / 'token'}")
    assert runs.settings == {**DEFAULTS, "hub_token": "hf_secret"}


def test_environment_variables_stand_for_options(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_OPERATOR_WORKERS", "3")
    runs.with_options()
    assert runs.settings["workers"] == 3


def test_the_lease_is_in_the_pod_s_namespace_and_its_holder_named_after_the_pod(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.with_options()
    assert runs.instance.startswith(f"{socket.gethostname()}_")
    assert len(runs.instance) == len(socket.gethostname()) + 9
    monkeypatch.setenv("POD_NAMESPACE", "system")
    monkeypatch.setenv("POD_NAME", "operator-0")
    runs.with_options()
    assert runs.settings["lease_namespace"] == "system"
    assert runs.instance.startswith("operator-0_")


def test_what_ends_the_process_is_said_with_status_1(runs: Runs) -> None:
    runs.error = ValueError("a defect")
    told = runs.with_options()
    assert told.exit_code == 1
    assert "vllm-operator: a defect" in told.output
    assert isinstance(told.exception, SystemExit)


def test_the_traceback_is_shown_where_the_log_is_to_tell_everything(runs: Runs) -> None:
    runs.error = ValueError("a defect")
    assert runs.with_options("--log-level=debug").exception is runs.error


def line(record: logging.LogRecord) -> str:
    (handler,) = logging.getLogger().handlers
    return handler.format(record)


RECORD = logging.makeLogRecord(
    {"name": "vllm_operator", "levelname": "INFO", "msg": "acting", "servers": 3}
)


def test_log_lines_are_json_with_what_was_attached(runs: Runs) -> None:
    runs.with_options()
    told = json.loads(line(RECORD))
    assert datetime.fromisoformat(told.pop("time"))
    assert told == {"level": "INFO", "logger": "vllm_operator", "message": "acting", "servers": 3}


def test_log_lines_for_a_terminal_end_with_what_was_attached(runs: Runs) -> None:
    runs.with_options("--log-format=text")
    assert line(RECORD).endswith("INFO    acting servers=3")


@pytest.mark.parametrize(("level", "number"), [("debug", 10), ("info", 20), ("warning", 30)])
def test_the_operator_logs_from_its_level_on_and_libraries_from_warnings_on(
    runs: Runs, level: str, number: int
) -> None:
    runs.with_options(f"--log-level={level}")
    assert logging.getLogger("vllm_operator").level == number
    assert logging.getLogger().level == 30
