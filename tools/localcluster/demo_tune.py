"""`make demo-tune`: flags of a live vLLM tuned from its own metrics, as a person sees it.

The real vLLM on this machine's CPU, a real Prometheus, the operator. Clients ask more at once than
the server takes; the operator finds that, tries another setting on one pod, and judges it. Every
duration of tuning is a multiple of one interval: 15 seconds in a cluster, one second here.
"""

import json
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NoReturn

from localcluster import binaries
from localcluster.demo import INTERRUPTED
from localcluster.demo_operator import ROOT
from localcluster.demo_terminal import DemoError, Shell, Terminal
from localcluster.errors import LocalClusterError
from localcluster.tuning_bed import LIKE_A_GPU, NAME, START_SECONDS, TuningBed
from realengine.clients import Clients, measured
from realengine.environments import SERVING_VERSION, Environment, ensure
from realengine.errors import RealEngineError

BEGIN: Final = 4
CLIENTS: Final = 32
ORDER: Final = (
    *("Observing", "Proposed", "Starting", "Warming", "Judging", "Promoting", "Verifying"),
)
TAKEN_BACK: Final = ("RollingBack", "CoolingDown", "Suspended")
MEASURED_SECONDS: Final = 10.0
LOOK: Final = f"kubectl get vllm {NAME} -o wide"
TUNED: Final = (
    f"kubectl get vllm {NAME} "
    '-o jsonpath=\'{.status.conditions[?(@.type=="Tuned")].message}{"\\n"}\''
)
HISTORY: Final = (
    f"kubectl get vllm {NAME} -o jsonpath='{{range .status.tuning.history[*]}}"
    '{.verdict}: {.reason}{"\\n"}{end}\''
)
FLAG: Final = (
    f"kubectl get deployment {NAME} -o jsonpath='{{.spec.template.spec.containers[0].command}}'"
    " | tr ',' '\\n' | grep -A 1 max-num"
)


class TuneDemo:
    """The chapters of the story, in order."""

    def __init__(self, terminal: Terminal, shell: Shell, bed: TuningBed) -> None:
        self._say, self._shell, self._bed = terminal, shell, bed
        self._before = 0.0

    def chapters(self, clients: Clients) -> list[Callable[[], None]]:
        """What to show."""
        return [
            lambda: self.load(clients),
            self.observe,
            self.propose,
            self.begin,
            self.judge,
            lambda: self.end(clients),
        ]

    def load(self, clients: Clients) -> None:
        """More requests at once than places."""
        self._say.heading(f"{CLIENTS} clients ask, each again as soon as it was answered")
        self._before = measured(clients, MEASURED_SECONDS)
        self._say.remark(
            f"{self._before:.0f} tokens a second; {BEGIN} requests run at once, the others wait."
        )
        self._shell.run(LOOK, expect=rf"^{NAME} .* Auto +Observing")

    def observe(self) -> None:
        """Until something was found."""
        interval = self._bed.interval
        self._say.heading("The operator reads the engine's metrics from Prometheus, and learns")
        self._say.remark(
            f"Of one replica at least six blocks of 40 intervals, and 300 requests: "
            f"{240 * interval:.0f} seconds here, an hour in a cluster."
        )
        self._reach("Proposed", 900)
        self._shell.run(LOOK, expect=" (Proposed|Starting)")

    def propose(self) -> None:
        """What, and what it rests on."""
        self._say.heading("It proposes another setting, and says why")
        self._shell.run(TUNED, expect="max-num-(active-)?seqs")
        self._say.remark("Two looks must agree, and all pods be ready for 60 intervals.")
        self._reach("Starting", 300)

    def begin(self) -> None:
        """One pod more, and nothing else moves."""
        self._say.heading("A trial: one pod of the new setting, beside the one that serves")
        self._reach("Warming", START_SECONDS)
        self._shell.run(f"kubectl get pods -l vllm-operator.io/server={NAME}", expect="1/1")
        self._shell.run(LOOK, expect=rf"^{NAME} .* 1/1 ")

    def judge(self) -> None:
        """Compared at equal load."""
        self._say.heading("Both serve; the new one is compared with the other at equal load")
        self._reach("Judging", 300)
        self._shell.run(LOOK, expect=" (Judging|Promoting|Verifying)")
        self._reach("Promoting", 900)
        self._shell.run(TUNED)

    def end(self, clients: Clients) -> None:
        """All replicas have it, and are watched."""
        self._say.heading("It is better: the other replica gets it, and is watched")
        self._reach("Verifying", START_SECONDS)
        self._shell.run(FLAG, expect="max-num")
        after = measured(clients, MEASURED_SECONDS)
        self._say.remark(f"{after:.0f} tokens a second, and {self._before:.0f} before.")
        self._shell.run(LOOK, expect=" Verifying")
        self._say.remark(
            f"It is watched for {240 * self._bed.interval:.0f} seconds more (an hour in a cluster) "
            "and taken back where it breaks what it promised."
        )
        self._shell.run(f"kubectl delete vllm {NAME}", expect="deleted")

    def _reach(self, state: str, seconds: float) -> None:
        """Waits for a state, or for one that only comes after it: they pass by themselves."""
        later = {*ORDER[ORDER.index(state) :], *TAKEN_BACK}
        found = self._bed.wait(lambda one: one["state"] in later, f"tuning to be {state}", seconds)
        if found["state"] in TAKEN_BACK:
            self._shell.run(HISTORY)
            raise DemoError("the trial", "a setting that proves better", json.dumps(found))


def introduce(terminal: Terminal, interval: float) -> None:
    """What is real and what is not."""
    terminal.heading("Tuning, shown with the real vLLM on this machine")
    terminal.remark(
        f"Real: Kubernetes {binaries.KUBERNETES_VERSION}'s control plane, Prometheus, the operator "
        "under its chart's rights,"
    )
    terminal.remark(
        f"  vLLM {SERVING_VERSION} in its CPU build, as processes that a node agent starts and "
        "probes."
    )
    terminal.remark("Fake: that node's GPUs; the model's weights, which are random; the clients.")
    terminal.remark(
        f"A step takes at least {LIKE_A_GPU.step:g} ms and {LIKE_A_GPU.sequence:g} ms a sequence, "
        "as on a slow GPU, and leaves"
    )
    terminal.remark("  the processors to others for the rest of it: two engines share them.")
    terminal.remark(
        f"Every duration of tuning is a multiple of one interval. It is {interval:g} s here and 15 "
        "s in a cluster:"
    )
    terminal.remark("  what takes minutes here takes a quarter of an hour each there.")
    terminal.remark(
        f"The server begins with --max-num-seqs {BEGIN}, as if a trial had proven that once. A pin "
        "would take the flag from tuning."
    )


def show(terminal: Terminal, environment: Environment, interval: float = 1.0) -> None:
    """The whole story. Raises DemoError; the cluster notes on it where it kept the logs."""
    started = time.monotonic()
    introduce(terminal, interval)
    with TuningBed(environment, interval, begin_at=BEGIN) as bed:
        folder = bed.cluster.directory / "demo"
        folder.mkdir()
        shell = Shell(
            terminal,
            folder,
            bed.cluster.directory / "bin",
            {
                "kubectl": [str(binaries.ensure("kubectl")["kubectl"])],
                "vllm-operator": [sys.executable, "-m", "vllm_operator"],
            },
            {
                "KUBECONFIG": str(bed.cluster.kubeconfig),
                "HOME": str(bed.cluster.directory),
                "PYTHONPATH": str(ROOT / "operator"),
            },
        )
        terminal.heading("A server with spec.autotune.mode Auto")
        manifest: dict[str, Any] = bed.manifest({"mode": "Auto"}, maxNumBatchedTokens=512)
        (folder / "tiny.json").write_text(json.dumps(manifest, indent=1) + "\n")
        shell.run("kubectl apply -f tiny.json", expect="created")
        shell.run(
            f"kubectl wait vllm/{NAME} --for=condition=Ready --timeout={START_SECONDS:.0f}s",
            timeout=START_SECONDS + 10,
        )
        with Clients(CLIENTS, bed.ready_pods) as clients:
            for chapter in TuneDemo(terminal, shell, bed).chapters(clients):
                chapter()
    terminal.heading(f"Done in {time.monotonic() - started:.0f} s; everything is gone")


def main() -> int:
    """Exit status: 0, 1 where something was not as it should be, 130 when interrupted."""

    def interrupted(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    terminal = Terminal()
    try:
        show(terminal, ensure(), float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
    except (DemoError, LocalClusterError, RealEngineError, TimeoutError) as error:
        step = error
        if not isinstance(step, DemoError):
            step = DemoError("tuning", "the next step of the story", str(error))
        terminal.failure(step, getattr(error, "__notes__", []))
        return 1
    except KeyboardInterrupt:
        terminal.remark("interrupted; everything is gone")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
