"""The real vLLM in a pod: nothing on the way from a manifest to a completion is played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from e2e.support import ask, name_of, the_pod
from images.testing import real_engine
from localcluster.image_archive import archive
from realengine.environments import SERVING_VERSION, Environment
from support.world import World

PINS = {"maxModelLen": 2048, "maxNumSeqs": 4, "maxNumBatchedTokens": 512, "blockSize": 32}


def claim(world: World, folder: Path) -> None:
    """A claim `models` whose volume is that folder of the node."""
    modes: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    name = f"{world.namespace}-models"
    volume = {
        **modes,
        "capacity": {"storage": "1Gi"},
        "claimRef": {"namespace": world.namespace, "name": "models"},
        "hostPath": {"path": str(folder), "type": "Directory"},
    }
    request = {**modes, "resources": {"requests": {"storage": "1Gi"}}, "volumeName": name}
    body = {"metadata": {"name": name}, "spec": volume}
    world.cluster.api("POST", "/api/v1/persistentvolumes", body)
    path = f"/api/v1/namespaces/{world.namespace}/persistentvolumeclaims"
    world.cluster.api("POST", path, {"metadata": {"name": "models"}, "spec": request})


def test_vllm_answers_a_chat_completion_at_its_services_name(
    world: World, environment: Environment, tmp_path: Path
) -> None:
    image = archive(tmp_path / "engine.tar", real_engine(environment))
    for node in world.cluster.real_nodes:
        node.add_image(image)
    models = environment.models()
    claim(world, models)
    world.apply(
        "tiny",
        model={
            "id": "tiny/llama",
            "servedName": "tiny",
            "config": json.loads((models / "llama" / "config.json").read_text()),
            "storage": {
                "persistentVolumeClaim": {"claimName": "models", "path": "/llama", "mode": "Model"}
            },
        },
        engine={
            "image": f"vllm/vllm-openai:v{SERVING_VERSION}",
            **PINS,
            "dtype": "bfloat16",
            "enforceEager": True,
        },
        rollout={"drainSeconds": 1},
    )
    world.wait_ready("tiny", timeout=400)
    url = f"http://tiny.{world.namespace}.svc.cluster.local:8000/v1/chat/completions"
    question = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 8,
    }
    answer = ask(world, url, question, name="tiny")
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] == 8
    uid = world.cluster.kubectl(
        *("exec", name_of(the_pod(world, "tiny")), "--namespace", world.namespace, "--"),
        *("python3", "-c", "import os; print(os.getuid())"),
    )
    assert uid.stdout.strip() == "65532"
