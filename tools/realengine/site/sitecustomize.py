"""Read by every Python of a real engine: a wait for a message sleeps where it would yield.

vLLM's processes wait for each other in a loop of `sched_yield` (`distributed/utils.py`). On Linux
from 6.18 until the correction "sched/fair: Fix zero_vruntime tracking fix" of April 2026 such a
loop drives the scheduler's clock of a CPU away, and whatever else is to run there waits: probes of
a busy engine took up to 115 s on two cores, and take 0.1 s with this.
"""

import os
import time

MESSAGE_SECONDS = 0.0001


def _wait() -> None:
    time.sleep(MESSAGE_SECONDS)


os.sched_yield = _wait
