"""What the operator decided: the plan beside what is measured, tuning, and restarts."""

from watching.panels import TOKENS_A_SECOND, Panel, Query, Row
from watching.queries import Engines, total

from .asked import ENGINES, PODS, SERVER, said

PLAN = Row(
    "Plan against measured",
    [
        Panel(
            "Requests at once of a replica",
            "The plan's figures are of the number that it predicts for: the other three panels say "
            "little where what is measured is far from it.",
            "none",
            [
                Query(f"avg({total(ENGINES.now('requestsRunning'), PODS)})", "measured"),
                Query(said("predicted_concurrency"), "predicted for"),
            ],
            width=6,
        ),
        Panel(
            "Output of a replica",
            "Mean of those that are scraped.",
            TOKENS_A_SECOND,
            [
                Query(
                    f"avg({total(ENGINES.rate('generationTokens'), PODS)})",
                    "measured",
                ),
                Query(said("predicted_output_tokens_per_second"), "predicted"),
            ],
            width=6,
        ),
        Panel(
            "First token",
            "Means. What is predicted is of a request that finds a place at once.",
            "s",
            [
                Query(ENGINES.mean("timeToFirstToken"), "measured"),
                Query(said("predicted_time_to_first_token_seconds"), "predicted"),
            ],
            width=6,
        ),
        Panel(
            "Between tokens",
            "Means.",
            "s",
            [
                Query(ENGINES.mean("interTokenLatency"), "measured"),
                Query(said("predicted_inter_token_latency_seconds"), "predicted"),
            ],
            width=6,
        ),
    ],
)
TUNING = Row(
    "Tuning",
    [
        Panel(
            "State",
            "What tuning does with the server; nothing where it is not tuned.",
            "none",
            [Query(f"vllm_operator_tuning_state{{{SERVER}}}", "{{state}}")],
            "states",
            12,
        ),
        Panel(
            "Flags in force",
            "A trial has others on its own pod; they are here once it is promoted.",
            "none",
            [
                Query(said("plan_max_num_seqs"), "max-num-seqs"),
                Query(said("plan_max_num_batched_tokens"), "max-num-batched-tokens"),
            ],
            width=6,
        ),
        Panel(
            "Memory in force",
            "Part of each GPU that the engine may take.",
            "percentunit",
            [Query(said("plan_gpu_memory_utilization_ratio"), "gpu-memory-utilization")],
            width=6,
        ),
    ],
)
PROCESSES = Row(
    "Engines",
    [
        Panel(
            "Answer scrapes",
            "1 where the engine of a pod does.",
            "none",
            [Query(f"up{{{SERVER}}}", "{{pod}}")],
            "states",
            12,
        ),
        Panel(
            "Restarts",
            "Of each pod's engine, within the hour before; nothing where several API servers "
            "answer in a pod, whose metrics have no time of a start.",
            "none",
            [
                Query(
                    total(Engines(SERVER, "1h").rate("processStart", of="changes"), PODS), "{{pod}}"
                ),
                Query("vector($restarts)", "target"),
            ],
            width=12,
        ),
    ],
)
