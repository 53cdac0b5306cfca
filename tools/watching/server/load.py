"""What a server is asked for, how fast it answers, and what its steps hold."""

from watching.panels import TOKENS, TOKENS_A_SECOND, Panel, Query, Row
from watching.queries import either, total

from .asked import ENGINES, PODS, kept, objective, percentiles, said

TRAFFIC = Row(
    "Traffic",
    [
        Panel(
            "Requests that ended",
            "By how: at their own end, at a length, given up by the client, by an error.",
            "reqps",
            [
                Query(
                    total(ENGINES.rate("finishedRequests"), ("finished_reason",)),
                    "{{finished_reason}}",
                )
            ],
        ),
        Panel(
            "Tokens",
            "Prompt tokens count whether computed or found in a cache.",
            TOKENS_A_SECOND,
            [
                Query(total(ENGINES.rate("promptTokens")), "prompt"),
                Query(total(ENGINES.rate("generationTokens")), "output"),
            ],
        ),
        Panel(
            "Length of a request",
            "Mean of the requests that ended.",
            TOKENS,
            [
                Query(ENGINES.mean("promptLength"), "prompt"),
                Query(ENGINES.mean("outputLength"), "output"),
            ],
        ),
        Panel(
            "Requests at once",
            "Of each engine.",
            "none",
            [
                Query(total(ENGINES.now("requestsRunning"), PODS), "running {{pod}}"),
                Query(total(ENGINES.now("requestsWaiting"), PODS), "waiting {{pod}}"),
            ],
            width=12,
        ),
        Panel(
            "Requests that failed",
            "Ended by an error, of all that ended.",
            "percentunit",
            [
                Query(ENGINES.failed(), "failed"),
                Query("vector($failed)", "target"),
            ],
            width=12,
        ),
    ],
)
LATENCY = Row(
    "Latency against the objective",
    [
        Panel(
            "Time to the first token",
            "Waiting for a place included. The objective is that of spec.workload.slo, else the "
            "chart's.",
            "s",
            [
                *percentiles("timeToFirstToken"),
                Query(objective("timeToFirstToken", "first_token"), "objective"),
            ],
        ),
        Panel(
            "Time between two tokens",
            "Of single gaps.",
            "s",
            [
                *percentiles("interTokenLatency"),
                Query(objective("interTokenLatency", "between_tokens"), "objective"),
            ],
        ),
        Panel(
            "A whole request", "From its arrival to its end.", "s", percentiles("requestLatency")
        ),
        Panel(
            "Kept the objective",
            "Of requests by their first token, and of tokens by the gap before them, counted by "
            "the first edge of vLLM's buckets that is not below the objective.",
            "percentunit",
            [
                Query(kept("timeToFirstToken", "first_token"), "first tokens"),
                Query(kept("interTokenLatency", "between_tokens"), "gaps"),
                Query(either([said("objective_ratio"), "vector($percentile)"]), "objective"),
            ],
        ),
        Panel(
            "Speed of one request",
            "Output tokens a second after the first, as its reader sees them.",
            TOKENS_A_SECOND,
            [
                Query(
                    f"1 / ({ENGINES.mean('timePerOutputToken')}) or "
                    f"1 / ({ENGINES.mean('interTokenLatency')})",
                    "mean",
                ),
                Query(f"1 / {objective('interTokenLatency', 'between_tokens')}", "objective"),
            ],
        ),
        Panel(
            "Where a request's time goes",
            "Means: in the queue, in its prompt, in its output.",
            "s",
            [
                Query(ENGINES.mean("queueTime"), "queue"),
                Query(ENGINES.mean("prefillTime"), "prompt"),
                Query(ENGINES.mean("decodeTime"), "output"),
            ],
        ),
    ],
)
BATCH = Row(
    "Batch, and what bounds it",
    [
        Panel(
            "How far each limit is used",
            "What is at 100 % while requests wait bounds the server: places by --max-num-seqs, "
            "tokens of a step by --max-num-batched-tokens (a mean: far below 100 % where most "
            "steps only decode), the KV cache by memory.",
            "percentunit",
            [
                Query(
                    f"{total(ENGINES.now('requestsRunning'), PODS, 'max')} / on () group_left "
                    f"{said('plan_max_num_seqs')}",
                    "places {{pod}}",
                ),
                Query(
                    f"{ENGINES.mean('stepTokens', PODS)} / on () group_left "
                    f"{said('plan_max_num_batched_tokens')}",
                    "tokens of a step {{pod}}",
                ),
                Query(total(ENGINES.now("kvCacheUsage"), PODS, "max"), "KV cache {{pod}}"),
            ],
            width=12,
        ),
        Panel(
            "Tokens of a step",
            "Mean of each engine; its limit is --max-num-batched-tokens.",
            TOKENS,
            [
                Query(ENGINES.mean("stepTokens", PODS), "{{pod}}"),
                Query(said("plan_max_num_batched_tokens"), "limit"),
            ],
            width=6,
        ),
        Panel(
            "Steps",
            "Of each engine.",
            "ops",
            [Query(total(ENGINES.rate("stepTokens", "count"), PODS), "{{pod}}")],
            width=6,
        ),
    ],
)
