"""The dashboard of one server."""

from watching.panels import Board, Panel, Query, Row
from watching.queries import total

from .asked import ENGINES, SERVER, said
from .caches import CACHE, PREFIXES, SPECULATION
from .decisions import PLAN, PROCESSES, TUNING
from .load import BATCH, LATENCY, TRAFFIC

OVERVIEW = Row(
    "Overview",
    [
        Panel(
            "Replicas",
            "Those that serve, of those that are asked for.",
            "none",
            [Query(said("ready_replicas"), "ready"), Query(said("replicas"), "asked for")],
            "number",
            4,
            4,
        ),
        Panel(
            "State",
            "As the operator has it; kubectl describe says why.",
            "none",
            [Query(f"vllm_operator_server_state{{{SERVER}}}", "{{state}}")],
            "words",
            4,
            4,
        ),
        Panel(
            "Plan in force",
            "Model, GPUs, layout and version of vLLM.",
            "none",
            [
                Query(
                    f"vllm_operator_plan_info{{{SERVER}}}",
                    "{{model}} on {{gpu}}, {{layout}}, vLLM {{version}}",
                )
            ],
            "words",
            10,
            4,
        ),
        Panel(
            "Bound by",
            "What tuning has found; nothing where it is not tuned or nothing was found yet.",
            "none",
            [Query(f"vllm_operator_tuning_bound{{{SERVER}}}", "{{bound}}")],
            "words",
            3,
            4,
        ),
        Panel(
            "Requests",
            "Running and waiting now, of all engines.",
            "none",
            [
                Query(total(ENGINES.now("requestsRunning")), "running"),
                Query(total(ENGINES.now("requestsWaiting")), "waiting"),
            ],
            "number",
            3,
            4,
        ),
    ],
)
BOARD = Board(
    uid="vllm-server",
    title="vLLM server",
    about="One VLLMServer: its traffic, its latency, what bounds it, its caches, its plan.",
    rows=[
        *(OVERVIEW, TRAFFIC, LATENCY, BATCH, CACHE, PREFIXES, SPECULATION, PLAN, TUNING, PROCESSES)
    ],
    of_one_server=True,
)
