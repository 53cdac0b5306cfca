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
from vllm_operator.controller.trials import NoTuner
from vllm_operator.lifecycle.intent import World
from vllm_operator.lifecycle.records import Key
from vllm_operator.lifecycle.trial import Wanted
from vllm_operator.lifecycle.trials import Candidate
from vllm_operator.sizing.asked.tuned import Tuned
from vllm_operator.tuning.standing import Wants

DIRECTION = "test.vllm-operator.io/wants"


class Directed(NoTuner):
    """Asks for what the annotation says. It remembers in the process what a real one would in the
    status: a trial that it has seen held is not begun again."""

    def __init__(self) -> None:
        self._held: set[tuple[Key, int]] = set()
        self._refused: set[Key] = set()

    def wants(self, key: Key, world: World) -> Wanted:
        """Nothing without an annotation."""
        said = world.server.metadata.annotations.get(DIRECTION)
        if said is None or key in self._refused:
            return Wanted()
        document = json.loads(said)
        wants, seqs = Wants[document["wants"]], document["maxNumSeqs"]
        tuned = Tuned("it was asked for", max_num_seqs=seqs)
        tried = [
            one for one in world.revisions.trials if one.tuned and one.tuned.max_num_seqs == seqs
        ]
        name = tried[0].name if tried else ""
        if world.trial.held is not None:
            self._held.add((key, seqs))
        if wants is Wants.TRIAL and (key, seqs) not in self._held:
            return Wanted(wants, candidate=Candidate(tuned, "a test"))
        return Wanted(wants, name) if name else Wanted()

    def refused(self, key: Key, why: str) -> None:
        """It does not insist."""
        self._refused.add(key)


def run() -> None:
    """The command line, with that tuner."""
    undirected = process.run_operator

    async def directed(settings: process.OperatorSettings, instance: str) -> None:
        await undirected(settings, instance, Directed())

    process.run_operator = directed  # type: ignore[assignment]
    main()


if __name__ == "__main__":
    run()
