"""Stories are told on a cluster whose nodes run the scripted engine as real processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import Cluster
from localcluster.agent.images import Image
from scriptedengine.images import scripted
from stories.life import EMPTY, H100, SPEED, Life, living

CRDS = Path(__file__).parents[2] / "crds"
NODE_LOSS_SECONDS = 6

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """One for each worker; a story may restart its API server, as none runs beside it."""
    with Cluster(kwok=False, manifests=[CRDS], node_loss_seconds=NODE_LOSS_SECONDS) as running:
        running.add_agent_node(
            "real-0", [scripted(), Image(EMPTY)], product=H100, count=64, speed=SPEED
        )
        yield running


@pytest.fixture
def life(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Life]:
    """The place of the story that the test tells."""
    with living(cluster, tmp_path, request.node.name) as found:
        yield found
