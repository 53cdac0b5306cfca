"""`make demo`: one model server's life on a local cluster with fake GPU nodes, as a person sees it.

Every command that is printed is the command that runs, and every line below it is its output. Lines
that start with `#` are remarks of this script; the figures in them are measured here.
"""

import re
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from localcluster import binaries
from localcluster.chart import NAMESPACE, install_chart
from localcluster.cluster import Cluster
from localcluster.demo_operator import ROOT, Operator
from localcluster.demo_terminal import DemoError, Shell, Terminal
from localcluster.errors import LocalClusterError
from localcluster.waiting import wait_until
from vllm_operator.engine.versions import DEFAULT_IMAGE, version_in_tag

NODES = 2
GPUS_PER_NODE = 8
PRODUCT = "NVIDIA-H100-80GB-HBM3"
NEWER_IMAGE = "vllm/vllm-openai:v0.33.0"
INTERRUPTED = 130

WAIT = 120
"""Seconds that a step may take where the machine has other work; without any it takes a few."""
QUIET = 2.0
"""Seconds without a write after which nothing is under way."""
OF_SERVERS = (
    "/apis/vllm-operator.io/v1alpha1/namespaces/default/vllmservers",
    "/apis/apps/v1/namespaces/default/controllerrevisions",
    "/apis/apps/v1/namespaces/default/deployments",
    "/apis/apps/v1/namespaces/default/replicasets",
    "/api/v1/namespaces/default/services",
    "/api/v1/namespaces/default/pods",
)
"""Where the objects are served that a server brings with it."""
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"

CONDITIONS = (
    "kubectl get vllm qwen -o jsonpath='{range .status.conditions[*]}"
    '{.type}={.status} {.reason}: {.message}{"\\n"}{end}\''
)
VERSIONS = (
    "kubectl get all,controllerrevision -o "
    "custom-columns=KIND:.kind,NAME:.metadata.name,RESOURCEVERSION:.metadata.resourceVersion"
)
ARGUMENT = (
    "kubectl get deployment qwen -o jsonpath='{.spec.template.spec.containers[0].command}' "
    "| tr ',' '\\n' | grep -A 1 max-num-seqs"
)


def ready_with(image: str) -> str:
    """What the listing says of the server once it runs this image's version."""
    return rf"^qwen .* {re.escape(version_in_tag(image) or '')} +1/1 +Ready "


class Demo:
    """The chapters of the story, in order."""

    def __init__(
        self, terminal: Terminal, shell: Shell, cluster: Cluster, operator: Operator
    ) -> None:
        self._say = terminal
        self._shell = shell
        self._cluster = cluster
        self._operator = operator

    def chapters(self) -> list[Callable[[], None]]:
        """What to show."""
        return [
            self.plan,
            self.create,
            self.unchanged,
            self.edit,
            self.drift,
            self.refusals,
            self.scale,
            self.restart,
            self.upgrade,
            self.remove,
        ]

    def plan(self) -> None:
        """What would be done, before anything is."""
        self._say.heading("A manifest, and what the operator would make of it")
        self._shell.run("cat examples/01-minimal.yaml", expect="kind: VLLMServer")
        self._shell.run(
            "kubectl get nodes -o json | vllm-operator plan -f examples/01-minimal.yaml --nodes -",
            expect=r"--gpu-memory-utilization\s+0\.\d+",
        )

    def create(self) -> None:
        """From the manifest to a server that is ready."""
        self._say.heading("Apply it")
        started = time.monotonic()
        self._shell.run("kubectl apply -f examples/01-minimal.yaml", expect="created")
        self._ready()
        self._say.remark(f"{time.monotonic() - started:.1f} s; kwok makes a pod Ready after 1 s")
        self._shell.run("kubectl get vllm", expect=r"^qwen .* 1/1 +Ready ")
        self._shell.run(
            "kubectl get deployment,service,pod,controllerrevision -l vllm-operator.io/server=qwen",
            expect=r"deployment.apps/qwen +1/1 ",
        )
        self._shell.run(CONDITIONS, expect="^Ready=True Ready: serving at http://qwen.default.svc")

    def unchanged(self) -> None:
        """The user's object is the user's."""
        self._say.heading("Nothing was written into the specification: GitOps sees no difference")
        self._shell.run("kubectl diff -f examples/01-minimal.yaml && echo 'no difference'")

    def edit(self) -> None:
        """A pinned flag reaches the pods."""
        self._say.heading("Edit: at most 64 requests at once")
        self._shell.run(ARGUMENT, expect='"1024"')
        self._patch('{"spec":{"engine":{"maxNumSeqs":64}}}', expect="patched$")
        self._ready()
        self._shell.run(ARGUMENT, expect='"64"')
        self._shell.run("kubectl get replicasets", expect=r"qwen-\w+ +1 +1 +1 ")
        self._shell.run(
            "kubectl get vllm qwen -o jsonpath='"
            '{.status.plan.flags[?(@.name=="--max-num-seqs")]}{"\\n"}\'',
            expect="pinned in spec.engine.maxNumSeqs",
        )

    def drift(self) -> None:
        """Changes by hand of what the operator owns."""
        self._say.heading("Drift: somebody changes the Deployment by hand")
        self._shell.run("kubectl set image deployment/qwen engine=busybox", expect="image updated")
        _, seconds = self._shell.run(
            f"kubectl wait deployment/qwen --timeout={WAIT}s --for=jsonpath="
            f"'{{.spec.template.spec.containers[0].image}}'={DEFAULT_IMAGE}"
        )
        self._say.remark(f"repaired within {seconds:.2f} s, the start of kubectl included")
        self._shell.run("kubectl scale deployment/qwen --replicas=3", expect="scaled")
        self._shell.run(
            f"kubectl wait deployment/qwen --timeout={WAIT}s --for=jsonpath='{{.spec.replicas}}'=1"
        )
        # Ready may still be what it was before the change; the pods of it are another matter.
        self._shell.run(f"kubectl rollout status deployment/qwen --timeout={WAIT}s")
        self._ready()
        self._told("Repaired")
        self._shell.run("kubectl events --for vllmserver/qwen", expect=r"Normal +Repaired")

    def refusals(self) -> None:
        """Two kinds of wrong specification."""
        self._say.heading("Mistakes: some the API server refuses, the rest never harm what runs")
        self._patch(
            '{"spec":{"engine":{"gpuMemoryUtilization":1.5}}}',
            expect="spec.engine.gpuMemoryUtilization",
            status=1,
        )
        self._say.remark("a model that needs two GPUs, pinned to one: valid, and it cannot work")
        self._patch(
            '{"spec":{"model":{"id":"meta-llama/Llama-3.3-70B-Instruct"},'
            '"parallelism":{"tensor":1,"pipeline":1}}}',
            expect="patched$",
        )
        self._shell.run(f"kubectl wait vllm/qwen --for=condition=Planned=False --timeout={WAIT}s")
        self._shell.run("kubectl get vllm", expect=r"^qwen .* 1/1 +Infeasible ")
        self._shell.run(
            "kubectl get vllm qwen -o jsonpath='"
            '{range .status.problems[*]}{.field}: {.message}{"\\n"}{end}\'',
            expect="What works: ",
        )
        self._say.remark("the last good plan keeps serving, and is still repaired")
        self._shell.run("kubectl delete service qwen", expect="deleted")
        self._shell.run(f"kubectl wait service/qwen --for=create --timeout={WAIT}s")
        self._shell.run("kubectl get deployment,service qwen", expect=r"deployment.apps/qwen +1/1 ")
        self._say.remark("back to what worked")
        self._patch(
            '{"spec":{"model":{"id":"Qwen/Qwen2.5-7B-Instruct"},"parallelism":null}}',
            expect="patched$",
        )
        self._ready()

    def scale(self) -> None:
        """To zero and back, as an autoscaler does it."""
        self._say.heading("Scale to zero and back, through the scale subresource")
        self._shell.run("kubectl scale vllm/qwen --replicas=0", expect="scaled")
        self._ready()
        self._shell.run("kubectl get vllm", expect=r"^qwen .* 0/0 +ScaledToZero ")
        self._shell.run("kubectl scale vllm/qwen --replicas=1", expect="scaled")
        self._ready()

    def restart(self) -> None:
        """A settled server is written no more, whatever becomes of the operator."""
        self._say.heading("Quiet: the operator is killed and started again")
        self._quiet()
        before, _ = self._shell.run(VERSIONS, expect="VLLMServer +qwen")
        started = time.monotonic()
        self._shell.run(f"kill -9 {self._operator.pid}")
        self._operator.forget()
        self._operator.start()
        try:
            wait_until(
                lambda: self._operator.metric("vllm_operator_reconciles_total") >= 1,
                "the new operator's first visit",
                WAIT,
            )
            self._say.remark("a new operator was started and has looked at the server")
        except TimeoutError as error:
            raise DemoError("restart of the operator", "a visit of the server", "none") from error
        after, _ = self._shell.run(VERSIONS, expect="VLLMServer +qwen")
        if before != after:
            raise DemoError(VERSIONS, before, after)
        writes = self._operator.metric("vllm_operator_writes_total")
        if writes:
            raise DemoError("writes of the new operator", "0", f"{writes:g}")
        seconds = time.monotonic() - started
        self._say.remark(f"the same resourceVersions after a restart and {seconds:.1f} s")
        self._say.remark(f"writes since settled: {writes:.0f} (vllm_operator_writes_total)")

    def upgrade(self) -> None:
        """A release with another default image rolls nothing until somebody asks for it."""
        self._say.heading("Upgrade: an operator whose default is a newer vLLM; nothing rolls")
        self._shell.run(f"kill -TERM {self._operator.pid}")
        self._operator.forget()
        option = f"--default-image={NEWER_IMAGE}"
        self._operator.start(option)
        self._say.remark(f"started anew with {option}")
        self._shell.run(f"kubectl wait vllm/qwen --for=condition=UpdateAvailable --timeout={WAIT}s")
        self._shell.run(
            "kubectl get vllm qwen -o jsonpath='"
            '{.status.conditions[?(@.type=="UpdateAvailable")].message}{"\\n"}\'',
            expect=f"image .* -> {NEWER_IMAGE}",
        )
        self._shell.run("kubectl get vllm", expect=ready_with(DEFAULT_IMAGE))
        self._say.remark("now it is asked for")
        self._shell.run(
            "kubectl annotate vllm qwen vllm-operator.io/replan=newer-vllm", expect="annotated$"
        )
        self._shell.run(
            f"kubectl wait vllm/qwen --for=condition=UpdateAvailable=False --timeout={WAIT}s"
        )
        self._ready()
        self._shell.run("kubectl get vllm", expect=ready_with(NEWER_IMAGE))

    def remove(self) -> None:
        """The server goes, and what it owned goes with it."""
        self._say.heading("Delete")
        self._shell.run("kubectl delete -f examples/01-minimal.yaml", expect="deleted")
        self._shell.run(
            f"kubectl wait deployment/qwen service/qwen --for=delete --timeout={WAIT}s && "
            "kubectl get deployment,pod,controllerrevision -l vllm-operator.io/server=qwen"
        )

    def _patch(self, patch: str, *, expect: str, status: int = 0) -> None:
        command = f"kubectl patch vllm qwen --type merge -p '{patch}'"
        self._shell.run(command, expect=expect, status=status)

    def _ready(self) -> None:
        self._shell.run(f"kubectl wait vllm/qwen --for=condition=Ready --timeout={WAIT}s")

    def _told(self, reason: str) -> None:
        """Wait for an event: it is posted after what it tells of was done."""
        wait_until(
            lambda: any(one["reason"] == reason for one in self._objects(EVENTS)),
            f"an event {reason}",
            WAIT,
        )

    def _quiet(self) -> None:
        """Wait until nobody writes any more: controllers go on after the server is Ready."""
        seen, since = [""], time.monotonic()

        def quiet() -> bool:
            nonlocal seen, since
            found = [one["metadata"] for path in OF_SERVERS for one in self._objects(path)]
            versions = [metadata["resourceVersion"] for metadata in found]
            if versions != seen or any("deletionTimestamp" in metadata for metadata in found):
                seen, since = versions, time.monotonic()
            return time.monotonic() - since >= QUIET

        wait_until(quiet, "the server's objects to stay as they are", WAIT)

    def _objects(self, path: str) -> list[dict[str, Any]]:
        return list(self._cluster.api("GET", path)["items"])


def introduce(terminal: Terminal) -> None:
    """What is real here and what is not."""
    terminal.heading("vllm-operator, shown on this machine")
    terminal.remark(
        "Real: etcd, API server, controller manager and scheduler of Kubernetes "
        f"{binaries.KUBERNETES_VERSION};"
    )
    terminal.remark("  the operator, under the RBAC rules of its Helm chart; kubectl.")
    terminal.remark(
        f"Fake: {NODES} nodes with {GPUS_PER_NODE} H100 each. kwok plays their kubelets and says "
        "that pods run."
    )
    terminal.remark("  No container is started, no vLLM runs, no GPU is needed, nothing is served.")
    terminal.remark("Each line after a $ is the command that ran, below it is its output.")


def show(terminal: Terminal) -> None:
    """The whole story. Raises DemoError; the cluster notes on it where it kept the logs."""
    started = time.monotonic()
    introduce(terminal)
    with Cluster(manifests=[ROOT / "crds"]) as cluster:
        for number in range(1, NODES + 1):
            cluster.add_gpu_node(f"gpu-{number}", PRODUCT, GPUS_PER_NODE)
        kubeconfig = install_chart(cluster)
        logs = cluster.log("operator").parent
        operator = Operator(kubeconfig, logs)
        try:
            shell = Shell(
                terminal,
                ROOT,
                cluster.directory / "bin",
                {
                    "kubectl": [str(binaries.ensure("kubectl")["kubectl"])],
                    "vllm-operator": [sys.executable, "-m", "vllm_operator"],
                },
                {
                    "KUBECONFIG": str(cluster.kubeconfig),
                    "HOME": str(cluster.directory),
                    "PYTHONPATH": str(ROOT / "operator"),
                },
            )
            terminal.heading("The cluster and the operator")
            operator.start()
            terminal.remark(f"Both are up, {time.monotonic() - started:.1f} s after the start.")
            terminal.remark(
                "Of charts/vllm-operator the CRD, the account and the RBAC rules are applied. As"
            )
            terminal.remark(
                "there is no container runtime here, the operator runs as a process of this machine"
            )
            terminal.remark("under that account's token, and may do what the chart lets it do:")
            shell.run(
                "kubectl get nodes -L nvidia.com/gpu.product,nvidia.com/gpu.count",
                expect=PRODUCT,
            )
            account = f"system:serviceaccount:{NAMESPACE}:{kubeconfig.stem.split('-', 2)[2]}"
            shell.run(f"kubectl auth can-i patch deployments --as {account}", expect="^yes")
            shell.run(f"kubectl auth can-i get secrets --as {account}", expect="^no", status=1)
            for chapter in Demo(terminal, shell, cluster, operator).chapters():
                chapter()
        finally:
            operator.close()
    terminal.heading(f"Done in {time.monotonic() - started:.0f} s; cluster and operator are gone")
    terminal.remark("make cluster keeps such a cluster; README.md installs on a real one")


def main() -> int:
    """Exit status: 0, 1 where something was not as it should be, 130 when interrupted."""

    def interrupted(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    terminal = Terminal()
    try:
        show(terminal)
    except (DemoError, LocalClusterError, TimeoutError) as error:
        step = error
        if not isinstance(step, DemoError):
            step = DemoError("the local cluster", "a cluster that answers", str(error))
        # The cluster notes on every error where it kept its logs and the operator's.
        terminal.failure(step, getattr(error, "__notes__", []))
        return 1
    except KeyboardInterrupt:
        terminal.remark("interrupted; cluster and operator are gone")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
