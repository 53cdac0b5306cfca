"""The operator with a tuner that does what an annotation of the server says.

``python -m support.directed run …`` is ``vllm-operator run …`` with it. The annotation holds JSON:
``{"wants": "TRIAL", "maxNumSeqs": 64}``. The trial that was pinned of that setting goes on, is
promoted, or (``STABLE``) is not to be in force; where there is none yet, it is begun, and not again
where it is gone.
"""

from __future__ import annotations

import json

from vllm_operator.cli.main import main
from vllm_operator.controller import process
from vllm_operator.lifecycle.intent import World
from vllm_operator.lifecycle.records import Key
from vllm_operator.lifecycle.trial import Wanted, Wants
from vllm_operator.lifecycle.trials import Candidate
from vllm_operator.sizing.asked.tuned import Tuned

DIRECTION = "test.vllm-operator.io/wants"


class Directed:
    """Asks for what the annotation says."""

    def __init__(self) -> None:
        self._tried: set[tuple[Key, int]] = set()

    def wants(self, key: Key, world: World) -> Wanted:
        """Nothing without an annotation."""
        said = world.server.metadata.annotations.get(DIRECTION)
        if said is None:
            return Wanted()
        document = json.loads(said)
        wants, seqs = Wants[document["wants"]], document["maxNumSeqs"]
        found = [
            one for one in world.revisions.trials if one.tuned and one.tuned.max_num_seqs == seqs
        ]
        if found:
            self._tried.add((key, seqs))
            return Wanted(wants, found[0].name)
        if (key, seqs) in self._tried:
            return Wanted()
        candidate = Candidate(Tuned("it was asked for", max_num_seqs=seqs), "a test")
        return Wanted(wants, candidate=candidate)


def run() -> None:
    """The command line, with that tuner."""
    undirected = process.run_operator

    async def directed(settings: process.OperatorSettings, instance: str) -> None:
        await undirected(settings, instance, Directed())

    process.run_operator = directed  # type: ignore[assignment]
    main()


if __name__ == "__main__":
    run()
