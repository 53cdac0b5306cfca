"""vLLM's worker on CPUs, but that a step takes at least as long as on some GPU.

`--worker-cls pacedworker.Worker`. The rest of that time the processor is free, as it is beside a
GPU: two engines then share a small machine without taking from each other. `PACED_MILLISECONDS` is
what a step takes, `PACED_SEQUENCE_MILLISECONDS` what each sequence in it adds; 0 where they are not
set. While there is a file `slower` in HOME a step takes twice as long as it would.

With `PACED_PROCESSOR` all threads of the worker's process run on the processor of that number: one
of its own, where what else there is was started on the others.
"""

import os
import time
from pathlib import Path
from typing import Any

from vllm.v1.worker.cpu_worker import CPUWorker  # type: ignore[import-not-found]

STEP, SEQUENCE = (
    float(os.environ.get(name, "0")) / 1000
    for name in ("PACED_MILLISECONDS", "PACED_SEQUENCE_MILLISECONDS")
)
SLOWER = Path(os.environ.get("HOME", "/"), "slower")
PROCESSOR = os.environ.get("PACED_PROCESSOR", "")


class Worker(CPUWorker):  # type: ignore[misc]
    """Rests after each step for what is left of its time."""

    def init_device(self) -> None:
        """Before anything is computed."""
        super().init_device()
        if PROCESSOR:
            for thread in os.listdir("/proc/self/task"):
                os.sched_setaffinity(int(thread), {int(PROCESSOR)})

    def execute_model(self, scheduler_output: Any) -> Any:
        """A step."""
        begun = time.monotonic()
        output = super().execute_model(scheduler_output)
        sequences = len(scheduler_output.num_scheduled_tokens)
        if sequences:
            took = time.monotonic() - begun
            whole = max(took, STEP + SEQUENCE * sequences)
            time.sleep(whole * (1 + SLOWER.exists()) - took)
        return output
