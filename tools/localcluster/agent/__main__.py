"""`python -m localcluster.agent FILE`: one agent with the settings in the file, until SIGTERM."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from localcluster.agent.node import Node
from localcluster.agent.settings import Settings


async def _main(path: Path) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await Node(Settings.read(path)).run()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
