"""Pods of a replica on several nodes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.builders import OFFER
from unit.sizing.examples import H100, inputs_for, only_problem, server, value_of
from vllm_operator.api.plan import Plan
from vllm_operator.engine import flags
from vllm_operator.engine.versions import NEWEST_KNOWN, Version
from vllm_operator.manifests import render
from vllm_operator.manifests.groups import group_script
from vllm_operator.sizing.plan.planner import make_plan

R1 = "deepseek-ai/DeepSeek-R1"


def planned(**spec: Any) -> tuple[Any, Plan]:
    asked = server(R1, gpu=H100, **spec)
    return asked, make_plan(asked, inputs_for(asked, max_nodes=8))


def templates(**spec: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    asked, plan = planned(**spec)
    made = render.render(asked, plan, OFFER)[0]["spec"]["leaderWorkerTemplate"]
    return made["leaderTemplate"], made["workerTemplate"]


def container(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = template["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("version", ["0.11.1", "0.20.0", str(NEWEST_KNOWN)])
def test_both_commands_are_accepted_by_the_version_s_parser(version: str) -> None:
    for template in templates(engine={"version": version}):
        arguments = container(template)["command"][2:]
        assert flags.problems(arguments, Version.parse(version)) == []


def test_the_plan_names_every_argument_of_the_leader() -> None:
    _, plan = planned()
    assert value_of(plan, "--nnodes") == str(plan.placement.nodes)
    assert value_of(plan, "--node-rank") == "0"
    leader, _ = templates()
    assert container(leader)["command"] == plan.engine.command


def test_a_replica_on_one_node_has_no_such_arguments() -> None:
    asked = server("meta-llama/Llama-3.1-8B-Instruct", gpu=H100)
    plan = make_plan(asked, inputs_for(asked, max_nodes=8))
    assert not {"--nnodes", "--node-rank", "--master-addr"} & set(plan.engine.command)


def test_every_pod_knows_its_own_address_and_holds_a_node_s_gpus() -> None:
    for template in templates():
        variables = {one["name"]: one for one in container(template)["env"]}
        assert variables["VLLM_HOST_IP"]["valueFrom"]["fieldRef"] == {"fieldPath": "status.podIP"}
        assert container(template)["resources"]["limits"] == {"nvidia.com/gpu": "8"}


def test_a_worker_is_no_engine_and_keeps_the_leader_s_volumes() -> None:
    leader, worker = templates()
    labels = [one["metadata"]["labels"]["app.kubernetes.io/component"] for one in (leader, worker)]
    assert labels == ["engine", "worker"]
    assert worker["spec"]["volumes"] == leader["spec"]["volumes"]
    assert container(worker)["volumeMounts"] == container(leader)["volumeMounts"]


def test_what_completes_a_pod_is_on_every_pod_of_a_group_and_its_queue_on_the_group() -> None:
    completed = {
        "schedulerName": "volcano",
        "serviceAccountName": "reader",
        "identity": "Platform",
        "securityContext": {"supplementalGroups": [109]},
        "volumes": [{"name": "files", "configMap": {"name": "files"}}],
        "volumeMounts": [{"name": "files", "mountPath": "/files"}],
        "initContainers": [{"name": "fetch", "image": "a/b:1"}],
        "containers": [{"name": "proxy", "image": "a/b:1"}],
        "workloadLabels": {"kueue.x-k8s.io/queue-name": "tenant"},
    }
    asked, plan = planned(pod=completed)
    workload = render.render(asked, plan, OFFER)[0]
    assert workload["kind"] == "LeaderWorkerSet"
    assert workload["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "tenant"
    for name in ("leaderTemplate", "workerTemplate"):
        pod = workload["spec"]["leaderWorkerTemplate"][name]["spec"]
        assert (pod["schedulerName"], pod["serviceAccountName"]) == ("volcano", "reader")
        assert "runAsUser" not in pod["securityContext"]
        assert pod["securityContext"]["supplementalGroups"] == [109]
        assert pod["volumes"][-1] == completed["volumes"][0]
        assert pod["containers"][0]["volumeMounts"][-1] == completed["volumeMounts"][0]
        assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
        assert [one["name"] for one in pod["containers"]] == ["engine", "proxy"]
        assert [one["name"] for one in pod["initContainers"]] == ["fetch"]


def test_data_parallel_ranks_over_nodes_are_refused_with_the_field() -> None:
    asked = server(R1, gpu=H100, parallelism={"tensor": 8, "data": 2})
    field, reason, message = only_problem(make_plan(asked, inputs_for(asked, max_nodes=8)))
    assert (field, reason) == ("spec.parallelism.data", "IllegalPin")
    assert "2 data-parallel ranks would take 2 nodes" in message


def test_the_template_hash_follows_both_templates() -> None:
    asked, plan = planned()
    made = render.render(asked, plan, OFFER)[0]
    before = render.template_hash(made)
    worker = made["spec"]["leaderWorkerTemplate"]["workerTemplate"]
    worker["spec"]["containers"][0]["command"].append("--x")
    assert render.template_hash(made) != before


def test_every_pod_of_a_group_says_of_which_template_it_is() -> None:
    asked, plan = planned()
    made = render.render(asked, plan, OFFER)[0]
    told = made["metadata"]["annotations"]["vllm-operator.io/template-hash"]
    for template in templates():
        assert template["metadata"]["labels"]["vllm-operator.io/template"] == told


# The script for versions that need Ray, with a stand-in for it


FAKE_RAY = """
import json, os, pathlib
state = pathlib.Path(os.environ["STATE"])
def init(**_): pass
def shutdown(): pass
def nodes():
    seen = int(state.read_text() or 0) if state.exists() else 0
    state.write_text(str(seen + 1))
    return [{"Alive": True}, {"Alive": seen > 0}]
"""


def run(tmp_path: Path, told: dict[str, Any], *command: str) -> str:
    (tmp_path / "ray.py").write_text(FAKE_RAY)
    program = tmp_path / "ray"
    program.write_text('#!/bin/sh\necho "ray $@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "STATE": str(tmp_path / "state"),
    }
    ended = subprocess.run(
        [sys.executable, "-c", group_script(), json.dumps(told), *command],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ended.stdout


def test_the_leader_waits_for_every_node_and_becomes_the_engine(tmp_path: Path) -> None:
    told = {"role": "leader", "nodes": 2, "port": 6379}
    assert run(tmp_path, told, "echo", "vllm", "serve") == (
        "ray start --head --port=6379\nvllm serve\n"
    )
    assert (tmp_path / "state").read_text() == "2"


def test_a_worker_joins_once_the_leader_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        told = {"role": "worker", "address": "127.0.0.1", "port": port}
        assert run(tmp_path, told) == f"ray start --address=127.0.0.1:{port} --block\n"
