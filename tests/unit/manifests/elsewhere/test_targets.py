"""What a server keeps on one machine: memory, health, restarts, stops, files and secrets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from unit.manifests.elsewhere.support import (
    TARGETS,
    entries,
    refused,
    rendered,
    service,
    shell_command,
    shell_environment,
    unit_words,
    values,
)
from unit.sizing.examples import LLAMA_8B
from vllm_operator.manifests.elsewhere import health
from vllm_operator.manifests.elsewhere.fields import Target

SECRETS = {
    "model": {"id": LLAMA_8B, "tokenSecretRef": {"name": "hf", "key": "token"}},
    "engine": {"apiKeySecretRef": {"name": "api", "key": "key"}},
}
CONTAINERS = ["compose", "podman-quadlet"]
INSTALLED = ["systemd", "shell"]


def given(**spec: Any) -> tuple[Any, dict[str, Any]]:
    """Model and rest of a specification."""
    model = spec.pop("model", LLAMA_8B)
    return model, spec


def of(target: Target, **spec: Any) -> str:
    model, rest = given(**spec)
    return rendered(target, model, **rest)


def storage(**kind: Any) -> dict[str, Any]:
    return {"model": {"id": LLAMA_8B, "storage": kind}}


@pytest.mark.parametrize("target", TARGETS)
def test_several_nodes_are_refused_with_what_works(target: Target) -> None:
    spec = {"parallelism": {"tensor": 8, "pipeline": 2}}
    field, why = refused(target, **spec)
    assert field == "spec.parallelism"
    assert why == (
        f"a replica takes 2 nodes of 8 x NVIDIA-H100-80GB-HBM3, and {target} is for one machine; "
        "render --target kubernetes, which makes a LeaderWorkerSet, or make it fit one node: "
        "vllm-operator plan --max-nodes 1 says what would"
    )


@pytest.mark.parametrize("target", TARGETS)
def test_the_comments_carry_the_plan_s_figures(target: Target) -> None:
    head = of(target).replace("\n#   ", " ")
    assert "For 1 x NVIDIA-H100-80GB-HBM3 (tensor parallel 1) and this version alone" in head
    assert "Requests of up to 131,072 tokens. The KV cache surely holds " in head
    assert "At most 1,024 requests and 8,192 tokens a step." in head
    assert "Weights: 15.0 GiB." in head


@pytest.mark.parametrize("target", TARGETS)
def test_no_text_of_a_specification_ends_a_comment(target: Target) -> None:
    env = [{"name": "NOTE", "value": "one\ntwo\n# three"}]
    text = of(target, engine={"env": env})
    assert "\ntwo" not in text.replace("one\ntwo\n# three", "")


def test_shared_memory_follows_from_the_gpus() -> None:
    four = {"parallelism": {"tensor": 4}}
    assert service(of("compose", **four))["shm_size"] == "8g"
    assert values(of("podman-quadlet", **four), "Container", "ShmSize") == ["8g"]


@pytest.mark.parametrize("target", INSTALLED)
def test_shared_memory_of_the_machine_is_asked_for(target: Target) -> None:
    assert "/dev/shm takes 8g." in of(target, parallelism={"tensor": 4}).replace("\n#   ", " ")


def test_a_start_and_a_stop_have_the_time_of_the_pods() -> None:
    rollout = {"startupBudgetSeconds": 900, "drainSeconds": 120}
    found = service(of("compose", rollout=rollout))
    assert found["healthcheck"]["start_period"] == "900s"
    assert found["stop_grace_period"] == "140s"
    unit = dict(entries(of("systemd", rollout=rollout), "Service"))
    assert (unit["TimeoutStartSec"], unit["TimeoutStopSec"]) == ("900", "140")
    quadlet = of("podman-quadlet", rollout=rollout)
    assert values(quadlet, "Container", "HealthStartPeriod") == ["900s"]
    assert values(quadlet, "Container", "StopTimeout") == ["140"]
    assert dict(entries(quadlet, "Service"))["TimeoutStopSec"] == "150"
    assert "allow it 140 s before SIGKILL" in of("shell", rollout=rollout).replace("\n#   ", " ")


@pytest.mark.parametrize("target", TARGETS)
def test_a_version_that_drains_nothing_by_itself_is_told(target: Target) -> None:
    old = of(target, engine={"image": "vllm/vllm-openai:v0.12.0"}).replace("\n#   ", " ")
    assert "spec.rollout.drainSeconds: vLLM 0.12.0 ends running requests when it is told" in old
    assert "spec.rollout.drainSeconds" not in of(target)


def test_whether_it_answers_is_asked_as_pods_are() -> None:
    question = (
        'import http.client as h; c = h.HTTPConnection("127.0.0.1", 8000, timeout=5); '
        'c.request("GET", "/health"); raise SystemExit(c.getresponse().status != 200)'
    )
    assert service(of("compose"))["healthcheck"]["test"] == ["CMD", "python3", "-c", question]
    (asked,) = values(of("podman-quadlet"), "Container", "HealthCmd")
    assert asked == f"python3 -c '{question}'"
    (waits,) = values(of("systemd"), "Service", "ExecStartPost")
    shell, option, script = unit_words(waits, expands=True)
    assert (shell, option) == ("/bin/sh", "-c")
    assert script.startswith(f"while kill -0 \"$MAINPID\"; do python3 -c '{question}'")


@pytest.mark.parametrize(("status", "ends"), [(200, 0), (503, 1), (None, 1)])
def test_the_question_is_answered_by_the_server_alone(
    status: int | None, ends: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a proxy, which the engine's variables may name."""
    monkeypatch.setattr(health, "PORT", 1)
    if status is None:
        assert asked(health.question()) == ends
        return
    with answering(status) as port:
        monkeypatch.setattr(health, "PORT", port)
        assert asked(health.question()) == ends


def asked(question: str) -> int:
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:1", "PYTHONPATH": ""}
    command = [sys.executable, "-c", question]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_podman_restarts_what_gives_no_answer_for_the_budget() -> None:
    text = of("podman-quadlet", rollout={"livenessBudgetSeconds": 100})
    container = dict(entries(text, "Container"))
    assert container["HealthInterval"] == "15s"
    assert container["HealthRetries"] == "7"
    assert container["HealthOnFailure"] == "kill"


def test_what_ends_is_started_again_but_not_for_ever() -> None:
    assert service(of("compose"))["restart"] == "unless-stopped"
    for target in ("systemd", "podman-quadlet"):
        text = of(target, rollout={"startupBudgetSeconds": 900})
        assert values(text, "Service", "Restart") == ["always"]
        assert values(text, "Unit", "StartLimitBurst") == ["3"]
        (window,) = values(text, "Unit", "StartLimitIntervalSec")
        assert int(window) > 3 * (900 + 10)


def test_secrets_are_names_of_what_somebody_puts_there() -> None:
    compose = of("compose", **SECRETS)
    assert service(compose)["env_file"] == [{"path": "./chat.env", "required": True}]
    quadlet = of("podman-quadlet", **SECRETS)
    assert values(quadlet, "Container", "Secret") == [
        "hf.token,type=env,target=HF_TOKEN",
        "api.key,type=env,target=VLLM_API_KEY",
    ]
    systemd = of("systemd", **SECRETS)
    assert values(systemd, "Service", "EnvironmentFile") == ["/etc/vllm/chat.env"]
    assert ': "${HF_TOKEN:?set it, to the key token of Secret hf}"\n' in of("shell", **SECRETS)


@pytest.mark.parametrize("target", TARGETS)
def test_the_comments_say_what_to_put_there(target: Target) -> None:
    text = of(target, **SECRETS).replace("\n#   ", " ")
    for variable, key in (
        ("HF_TOKEN", "token of Secret hf"),
        ("VLLM_API_KEY", "key of Secret api"),
    ):
        assert variable in text
        assert f"the key {key}" in text


@pytest.mark.parametrize("target", TARGETS)
def test_a_value_of_a_config_map_is_asked_for_by_name(target: Target) -> None:
    reference = {"name": "settings", "key": "level"}
    env = [{"name": "VLLM_LOGGING_LEVEL", "configMapKeyRef": reference}]
    text = of(target, engine={"env": env}).replace("\n#   ", " ")
    assert "the key level of ConfigMap settings" in text


def test_variables_keep_their_values() -> None:
    value = "100% of $HOME \"and\" 'more'\\"
    env = [{"name": "NOTE", "value": value}]
    assert service(of("compose", engine={"env": env}))["environment"]["NOTE"] == value
    assert shell_environment(of("shell", engine={"env": env}))["NOTE"] == value
    for target, section, expands in (
        ("systemd", "Service", False),
        ("podman-quadlet", "Container", True),
    ):
        found = values(of(target, engine={"env": env}), section, "Environment")
        words = [unit_words(one, expands=expands) for one in found]
        assert [f"NOTE={value}"] in words


def test_a_variable_of_the_engine_changes_nothing_of_the_script() -> None:
    env = [{"name": "cache", "value": "x"}, {"name": "PATH", "value": "/y"}]
    script = of("shell", engine={"env": env})
    assert "export cache" not in script
    assert shell_environment(script)["PATH"] == "/y"


def test_arguments_keep_their_values() -> None:
    extra = ["--override-generation-config", """{"a": "$x%y 'z'"}"""]
    spec = {"engine": {"extraArgs": extra}}
    (start,) = values(of("systemd", **spec), "Service", "ExecStart")
    (exec_,) = values(of("podman-quadlet", **spec), "Container", "Exec")
    for words in (
        service(of("compose", **spec))["command"],
        unit_words(exec_, expands=True),
        unit_words(start, expands=True),
        shell_command(of("shell", **spec)),
    ):
        value = words[words.index("--override-generation-config") + 1]
        assert json.loads(value) == {"a": "$x%y 'z'"}


def test_an_empty_argument_is_refused_where_the_generator_stops_at_it() -> None:
    spec = {"engine": {"extraArgs": ["--root-path", ""]}}
    field, why = refused("podman-quadlet", **spec)
    assert field == "spec.engine.extraArgs"
    assert "--flag=" in why
    assert "" in shell_command(of("shell", **spec))


def test_the_cache_is_kept_between_starts() -> None:
    assert service(of("compose"))["volumes"] == [
        {"type": "volume", "source": "chat-cache", "target": "/cache"}
    ]
    assert values(of("podman-quadlet"), "Container", "Volume") == ["chat-cache:/cache"]
    unit = of("systemd")
    assert values(unit, "Service", "CacheDirectory") == ["vllm-chat"]
    assert "HF_HOME=/var/cache/vllm-chat/huggingface" in values(unit, "Service", "Environment")
    script = of("shell")
    assert 'cache="${SERVER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vllm-chat}"' in script
    assert shell_environment(script)["HF_HOME"] == "$cache/huggingface"


def test_a_claim_is_a_volume_that_servers_share() -> None:
    claim = storage(persistentVolumeClaim={"claimName": "models", "path": "/hub"})
    (volume,) = service(of("compose", **claim))["volumes"]
    assert volume == {"type": "volume", "source": "models-hub", "target": "/cache"}
    assert "  models-hub:\n    name: models-hub\n" in of("compose", **claim)


def test_a_checkpoint_of_a_claim_is_a_folder_that_somebody_fills() -> None:
    claim = {"claimName": "models", "path": "/llama", "mode": "Model"}
    spec = storage(persistentVolumeClaim=claim)
    mount = service(of("compose", **spec))["volumes"][1]
    assert (mount["source"], mount["target"]) == ("./models/llama", "/models/llama")
    assert mount["read_only"] is True
    assert mount["bind"] == {"create_host_path": False}
    text = of("podman-quadlet", **spec)
    assert "/srv/vllm/chat/models/llama:/models/llama:ro,z" in values(text, "Container", "Volume")
    assert values(of("systemd", **spec), "Unit", "AssertPathExists") == ["/models/llama"]
    assert "[ -e /models/llama ] || { echo " in of("shell", **spec)


@pytest.mark.parametrize("target", TARGETS)
def test_what_has_to_be_put_where_is_told(target: Target) -> None:
    claim = {"claimName": "models", "path": "/llama", "mode": "Model"}
    text = of(target, **storage(persistentVolumeClaim=claim)).replace("\n#   ", " ")
    assert re.search("models/llama(, readable for the server's user)?: the checkpoint, from", text)


def test_a_folder_of_the_node_is_the_machine_s() -> None:
    spec = storage(hostPath={"path": "/data/llama", "mode": "Model"})
    mount = service(of("compose", **spec))["volumes"][1]
    assert (mount["source"], mount["target"]) == ("/data/llama", "/models")
    # Not relabelled: others may use it.
    text = of("podman-quadlet", **spec)
    assert "/data/llama:/models:ro" in values(text, "Container", "Volume")
    (start,) = values(of("systemd", **spec), "Service", "ExecStart")
    assert unit_words(start, expands=True)[3] == "/data/llama"
    assert shell_command(of("shell", **spec))[2] == "/data/llama"


def test_a_cache_in_a_folder_of_the_node_is_that_folder() -> None:
    spec = storage(hostPath={"path": "/data/hub"})
    unit = of("systemd", **spec)
    assert "HF_HOME=/data/hub/huggingface" in values(unit, "Service", "Environment")
    assert values(unit, "Service", "ReadWritePaths") == ["/data/hub"]
    assert "has to be able to write /data/hub: put User=" in unit.replace("\n#   ", " ")
    script = of("shell", **spec)
    assert shell_environment(script)["HF_HOME"] == "/data/hub/huggingface"
    assert "cache=" not in script


@pytest.mark.parametrize("target", CONTAINERS)
def test_a_checkpoint_in_an_image_is_mounted_from_it(target: Target) -> None:
    text = of(target, **storage(image={"reference": "models/llama:1", "path": "/llama"}))
    if target == "compose":
        mount = service(text)["volumes"][1]
        assert mount == {"type": "image", "source": "models/llama:1", "target": "/models"}
    else:
        assert values(text, "Container", "Mount") == [
            "type=image,source=models/llama:1,destination=/models"
        ]


FILES = {
    "pod": {
        "volumes": [
            {"name": "ca", "secret": {"secretName": "authority"}},
            {"name": "work", "emptyDir": {"medium": "Memory"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        ],
        "volumeMounts": [
            {"name": "ca", "mountPath": "/ca", "subPath": "ca.crt"},
            {"name": "work", "mountPath": "/work"},
            {"name": "data", "mountPath": "/data"},
        ],
    }
}


def test_further_volumes_of_pods_have_their_counterparts() -> None:
    found = {one["target"]: one for one in service(of("compose", **FILES))["volumes"]}
    assert found["/ca"]["source"] == "./authority/ca.crt"
    assert found["/work"] == {"type": "tmpfs", "target": "/work"}
    assert found["/data"] == {"type": "volume", "source": "data", "target": "/data"}
    quadlet = of("podman-quadlet", **FILES)
    assert "/srv/vllm/chat/authority/ca.crt:/ca:ro,z" in values(quadlet, "Container", "Volume")
    assert "/work" in values(quadlet, "Container", "Tmpfs")
    unit = of("systemd", **FILES)
    assert values(unit, "Unit", "AssertPathExists") == ["/ca", "/work", "/data"]
    assert values(unit, "Service", "ReadWritePaths") == ["/work", "/data"]


def test_limits_are_kept_where_somebody_keeps_them() -> None:
    spec = {"pod": {"resources": {"limits": {"cpu": "1500m", "memory": "64Gi"}}}}
    limits = service(of("compose", **spec))["deploy"]["resources"]["limits"]
    assert limits == {"cpus": "1.5", "memory": "64g"}
    unit = dict(entries(of("systemd", **spec), "Service"))
    assert (unit["MemoryMax"], unit["CPUQuota"]) == ("64G", "150%")
    arguments = values(of("podman-quadlet", **spec), "Container", "PodmanArgs")
    assert arguments == ["--memory=64g", "--cpus=1.5"]
    assert "spec.pod.resources.limits: a script limits nothing" in of("shell", **spec)


def test_nobody_s_user_is_set_unless_it_is_asked_for() -> None:
    assert "user" not in service(of("compose"))
    assert values(of("systemd"), "Service", "DynamicUser") == ["yes"]
    spec = {"pod": {"securityContext": {"runAsUser": 1000, "runAsGroup": 1001}}}
    assert service(of("compose", **spec))["user"] == "1000:1001"
    unit = of("systemd", **spec)
    assert values(unit, "Service", "User") == ["1000"]
    assert values(unit, "Service", "Group") == ["1001"]
    assert values(unit, "Service", "DynamicUser") == []
    quadlet = of("podman-quadlet", **spec)
    assert values(quadlet, "Container", "Group") == ["1001"]


def test_a_container_may_do_no_more_than_a_pod_s() -> None:
    found = service(of("compose"))
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    quadlet = dict(entries(of("podman-quadlet"), "Container"))
    assert quadlet["ReadOnly"] == quadlet["NoNewPrivileges"] == "true"
    assert quadlet["DropCapability"] == "all"


def test_kernels_that_are_compiled_in_the_temporary_folder_can_be_loaded() -> None:
    assert service(of("compose"))["tmpfs"] == ["/tmp:exec,mode=1777"]
    assert values(of("podman-quadlet"), "Container", "Tmpfs") == ["/tmp:rw,exec,mode=1777"]


@pytest.mark.parametrize("target", TARGETS)
def test_it_listens_on_this_machine_alone(target: Target) -> None:
    text = of(target)
    assert "127.0.0.1" in text
    if target == "compose":
        assert service(text)["ports"] == ["127.0.0.1:8000:8000"]
    if target == "podman-quadlet":
        assert values(text, "Container", "PublishPort") == ["127.0.0.1:8000:8000"]
