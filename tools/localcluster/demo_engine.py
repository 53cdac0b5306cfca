"""`make demo-engine`: one model server's life with the real vLLM, as a person sees it.

As `make demo`, but that pods are processes: a node agent in the kubelet's place starts vLLM's CPU
build, which serves a model of a few megabytes with random weights.
"""

import json
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from localcluster import binaries
from localcluster.chart import install_chart
from localcluster.cluster import Cluster
from localcluster.demo import INTERRUPTED, PRODUCT
from localcluster.demo_operator import ROOT, Operator
from localcluster.demo_terminal import DemoError, Shell, Terminal
from localcluster.errors import LocalClusterError
from realengine.environments import SERVING_VERSION, Environment, ensure
from realengine.errors import RealEngineError
from scriptedengine.images import real

START = 300
FEW, FEWER = 4, 2
CONDITIONS = (
    "kubectl get vllm tiny -o jsonpath='{range .status.conditions[*]}"
    '{.type}={.status} {.reason}: {.message}{"\\n"}{end}\''
)
ENDPOINTS = (
    "kubectl get endpointslice -l kubernetes.io/service-name=tiny "
    "-o jsonpath='{.items[0].endpoints[?(@.conditions.ready)].addresses[0]}'"
)
CHAT = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "def main"}],
    "max_tokens": 8,
    "ignore_eos": True,
}


class EngineDemo:
    """The chapters of the story, in order."""

    def __init__(self, terminal: Terminal, shell: Shell, folder: Path, models: Path) -> None:
        self._say = terminal
        self._shell = shell
        self._manifest = folder / "tiny.json"
        self._models = models

    def chapters(self) -> list[Callable[[], None]]:
        """What to show."""
        return [self.create, self.ask, self.edit, self.refuse, self.crash, self.remove]

    def create(self) -> None:
        """From the manifest to a vLLM that serves."""
        self._say.heading("A manifest: the model lies on a claim, its facts stand in the manifest")
        self._write()
        self._shell.run("cat tiny.json", expect="VLLMServer")
        self._shell.run("kubectl apply -f tiny.json", expect="created")
        started = time.monotonic()
        self._ready()
        self._say.remark(f"{time.monotonic() - started:.0f} s until vLLM answered /health")
        self._shell.run("kubectl get vllm", expect=r"^tiny .* 1/1 +Ready ")
        self._shell.run("kubectl get pods -o wide", expect=r" 1/1 +Running ")
        self._shell.run(
            "kubectl logs deployment/tiny | grep -E 'KV cache size|non-default args'",
            expect="KV cache size",
        )

    def ask(self) -> None:
        """A chat completion, through the address that the Service leads to."""
        self._say.heading("Ask it, at the address that its Service leads to")
        self._shell.run("kubectl get service tiny", expect="8000/TCP")
        address, _ = self._shell.run(ENDPOINTS, expect=r"\d")
        url = f"http://{address.strip()}:8000"
        self._say.command(f"POST {url}/v1/chat/completions {json.dumps(CHAT)}")
        answer = _post(f"{url}/v1/chat/completions", CHAT)
        self._say.output(json.dumps({key: answer[key] for key in ("choices", "usage")}, indent=1))
        if answer["usage"]["completion_tokens"] != CHAT["max_tokens"]:
            raise DemoError("a chat completion", f"{CHAT['max_tokens']} tokens", str(answer))

    def edit(self) -> None:
        """A pinned flag reaches the engine."""
        self._say.heading(f"Edit: at most {FEWER} requests at once")
        self._write(maxNumSeqs=FEWER)
        self._shell.run("kubectl apply -f tiny.json", expect="configured")
        self._ready()
        self._shell.run(
            "kubectl logs deployment/tiny | grep -o \"'max_num_seqs': [0-9]*\" | tail -1",
            expect=f"'max_num_seqs': {FEWER}$",
        )

    def refuse(self) -> None:
        """A flag that this vLLM does not have."""
        self._say.heading("A mistake: a flag that vLLM no longer has; what runs goes on")
        self._write(maxNumSeqs=FEWER, extraArgs=["--swap-space=4"])
        self._shell.run("kubectl apply -f tiny.json", expect="configured")
        self._shell.run("kubectl wait vllm/tiny --for=condition=Planned=False --timeout=20s")
        self._shell.run(CONDITIONS, expect="^Available=True ")

    def crash(self) -> None:
        """A flag that the operator passes on unread and vLLM refuses."""
        self._say.heading("Another: the engine does not start; its words are in the condition")
        self._write(maxNumSeqs=FEWER, extraArgs=['--structured-outputs-config={"backend": "no"}'])
        self._shell.run("kubectl apply -f tiny.json", expect="configured")
        self._shell.run(
            f"kubectl wait vllm/tiny --for=condition=Stalled --timeout={START}s", timeout=START
        )
        self._shell.run(CONDITIONS, expect="^Progressing=False ArgumentRefused: ")
        self._shell.run("kubectl get pods", expect=r" 1/1 +Running ")

    def remove(self) -> None:
        """It goes, and its processes with it."""
        self._say.heading("Delete")
        self._shell.run("kubectl delete -f tiny.json", expect="deleted")
        self._shell.run(
            "kubectl wait pod -l vllm-operator.io/server=tiny --for=delete --timeout=120s",
            timeout=130,
        )

    def _write(self, **engine: Any) -> None:
        self._manifest.write_text(json.dumps(manifest(self._models, **engine), indent=1) + "\n")

    def _ready(self) -> None:
        command = f"kubectl wait vllm/tiny --for=condition=Ready --timeout={START}s"
        self._shell.run(command, timeout=START + 10)


def manifest(models: Path, **engine: Any) -> dict[str, Any]:
    """A server of the tiny Llama, with every switch and limit pinned that works on CPUs."""
    pins = {"maxModelLen": 2048, "maxNumSeqs": FEW, "maxNumBatchedTokens": 512, "blockSize": 32}
    switches = {"dtype": "bfloat16", "enforceEager": True}
    claim = {"claimName": "models", "path": "/llama", "mode": "Model"}
    return {
        "apiVersion": "vllm-operator.io/v1alpha1",
        "kind": "VLLMServer",
        "metadata": {"name": "tiny"},
        "spec": {
            "model": {
                "id": "tiny/llama",
                "servedName": "tiny",
                "config": json.loads((models / "llama" / "config.json").read_text()),
                "storage": {"persistentVolumeClaim": claim},
            },
            "engine": {
                "image": f"vllm/vllm-openai:v{SERVING_VERSION}",
                **pins,
                **switches,
                **engine,
            },
            "rollout": {"drainSeconds": 1},
        },
    }


def claim(cluster: Cluster, folder: Path) -> None:
    """A PersistentVolumeClaim `models` whose volume is that folder of this machine."""
    modes: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    size = {"storage": "1Gi"}
    volume = {
        **modes,
        "capacity": size,
        "claimRef": {"namespace": "default", "name": "models"},
        "hostPath": {"path": str(folder)},
    }
    request = {**modes, "resources": {"requests": size}, "volumeName": "models"}
    volumes = {"metadata": {"name": "models"}, "spec": volume}
    cluster.api("POST", "/api/v1/persistentvolumes", volumes)
    path = "/api/v1/namespaces/default/persistentvolumeclaims"
    cluster.api("POST", path, {"metadata": {"name": "models"}, "spec": request})


def show(terminal: Terminal, environment: Environment) -> None:
    """The whole story. Raises DemoError; the cluster notes on it where it kept the logs."""
    started = time.monotonic()
    models = environment.models()
    terminal.heading("vllm-operator with the real vLLM, shown on this machine")
    terminal.remark(
        f"Real: Kubernetes {binaries.KUBERNETES_VERSION}'s control plane, the operator under its "
        "chart's rights,"
    )
    terminal.remark(
        f"  vLLM {SERVING_VERSION} in its CPU build, as a process that a node agent starts and "
        "probes."
    )
    terminal.remark("Fake: that node's GPUs; the model's weights, which are random.")
    with Cluster(kwok=False, manifests=[ROOT / "crds"]) as cluster:
        # No faster than a kubelet: what the probes wait for is real.
        cluster.add_agent_node("gpu-1", [real(environment)], PRODUCT, speed=1)
        claim(cluster, models)
        operator = Operator(install_chart(cluster), cluster.log("operator").parent)
        try:
            folder = cluster.directory / "demo"
            folder.mkdir()
            shell = Shell(
                terminal,
                folder,
                cluster.directory / "bin",
                {"kubectl": [str(binaries.ensure("kubectl")["kubectl"])]},
                {"KUBECONFIG": str(cluster.kubeconfig), "HOME": str(cluster.directory)},
            )
            operator.start()
            for chapter in EngineDemo(terminal, shell, folder, models).chapters():
                chapter()
        finally:
            operator.close()
    terminal.heading(f"Done in {time.monotonic() - started:.0f} s; everything is gone")


def main() -> int:
    """Exit status: 0, 1 where something was not as it should be, 130 when interrupted."""

    def interrupted(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    terminal = Terminal()
    try:
        show(terminal, ensure())
    except (DemoError, LocalClusterError, RealEngineError, TimeoutError) as error:
        step = error
        if not isinstance(step, DemoError):
            step = DemoError("the local cluster", "a cluster that answers", str(error))
        terminal.failure(step, getattr(error, "__notes__", []))
        return 1
    except KeyboardInterrupt:
        terminal.remark("interrupted; everything is gone")
        return INTERRUPTED
    return 0


def _post(url: str, body: object) -> dict[str, Any]:
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


if __name__ == "__main__":
    sys.exit(main())
