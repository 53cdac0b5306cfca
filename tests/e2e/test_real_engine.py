"""The real vLLM in a pod: nothing on the way from a manifest to a completion is played."""

from __future__ import annotations

from pathlib import Path

from e2e.support import ask, name_of, the_pod
from images.testing import real_engine
from localcluster.demo_engine import manifest
from localcluster.image_archive import archive
from realengine.environments import Environment
from support.pods import PodPlace
from support.world import World


def test_vllm_answers_a_chat_completion_at_its_services_name(
    world: World, environment: Environment, tmp_path: Path
) -> None:
    # Under the default image's name the nodes have the scripted engine.
    name = f"real/vllm:v{environment.lock.version}"
    image = archive(tmp_path / "engine.tar", real_engine(environment, f"docker.io/{name}"))
    for node in world.cluster.real_nodes:
        node.add_image(image)
    models = environment.models()
    PodPlace(world.cluster, world.namespace).claim("models", str(models))
    world.apply("tiny", **manifest(models, image=name)["spec"])
    world.wait_ready("tiny", timeout=1200)
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
