"""A script that was rendered for a machine without Kubernetes starts the real engine there."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from localcluster.processes import Processes, ReservedPort
from localcluster.waiting import wait_until
from realengine.environments import SERVING_VERSION, Environment
from support.builders import server_manifest
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.engine.versions import DEFAULT_IMAGE
from vllm_operator.manifests.elsewhere.targets import elsewhere
from vllm_operator.manifests.planned import Planned, planned
from vllm_operator.models.facts import facts_from_inline
from vllm_operator.sizing.asked.inputs import PlanningInputs

pytestmark = pytest.mark.timeout(600)
KV_BYTES = 64_000_000


@dataclass(frozen=True)
class Started:
    url: str
    cache: Path


def script(model: Path) -> str:
    """Of a model in a folder of this machine."""
    config = json.loads((model / "config.json").read_text())
    server = VLLMServer.model_validate(
        server_manifest(
            model={"id": str(model), "servedName": "tiny", "config": config},
            engine={
                "image": f"vllm/vllm-openai:v{SERVING_VERSION}",
                "maxModelLen": 2048,
                "maxNumSeqs": 16,
                "maxNumBatchedTokens": 1024,
                "dtype": "bfloat16",
                "enforceEager": True,
                "apiKeySecretRef": {"name": "api", "key": "key"},
            },
            gpu={"product": "NVIDIA-H100-80GB-HBM3", "perNode": 1},
        )
    )
    inputs = PlanningInputs(model=facts_from_inline(server.spec.model), default_image=DEFAULT_IMAGE)
    found = planned(server, inputs)
    assert isinstance(found, Planned), found.problems
    text = elsewhere(found, "shell")
    assert isinstance(text, str), text
    return text


@pytest.fixture(scope="module")
def answering(
    environment: Environment, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Started]:
    """A server that the script started."""
    folder = tmp_path_factory.mktemp("elsewhere")
    # By a path without hidden folders, which is all that a specification takes.
    (folder / "llama").symlink_to(models / "llama")
    (folder / "serve.sh").write_text(script(folder / "llama"))
    port, processes = ReservedPort(), Processes(folder, folder)
    variables = environment.variables()
    variables["PATH"] = f"{environment.vllm.parent}:{variables.get('PATH', '/usr/bin:/bin')}"
    variables |= {"SERVER_CACHE": str(folder / "cache"), "VLLM_API_KEY": "sesame"}
    assigned = [f"{name}={value}" for name, value in variables.items()]
    # What a CPU has for GPU memory is a number of its own.
    added = ["--port", str(port.number), "--kv-cache-memory-bytes", str(KV_BYTES)]
    bash = shutil.which("bash") or "/bin/bash"
    processes.start("script", ["env", "-i", *assigned, bash, str(folder / "serve.sh"), *added])
    url = f"http://127.0.0.1:{port.number}"
    try:
        wait_until(lambda: serves(processes, url), "the script's server", timeout=500, interval=0.5)
        yield Started(url, folder / "cache")
    finally:
        processes.close()
        port.close()


def serves(processes: Processes, url: str) -> bool:
    assert processes.poll("script") is None, processes.tail("script", 40)
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10):
            return True
    except (urllib.error.URLError, OSError):
        return False


def asked(url: str, key: str) -> int:
    body = {"model": "tiny", "prompt": "def main", "max_tokens": 4, "ignore_eos": True}
    request = urllib.request.Request(
        f"{url}/v1/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "authorization": f"Bearer {key}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(json.load(answer)["usage"]["completion_tokens"])
    except urllib.error.HTTPError as refusal:
        return -refusal.code


def test_a_server_of_a_rendered_script_answers(answering: Started) -> None:
    assert asked(answering.url, "sesame") == 4


def test_the_key_that_the_script_was_given_is_asked_for(answering: Started) -> None:
    assert asked(answering.url, "wrong") == -401


def test_what_the_engine_keeps_lies_in_the_folder_that_was_chosen(answering: Started) -> None:
    assert (answering.cache / "vllm").is_dir()
