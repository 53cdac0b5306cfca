"""The dashboard of one server."""

from watching.panels import TOKENS, TOKENS_A_SECOND, Board, Panel, Query, Row
from watching.queries import Engines, either, ratio, total

SERVER = 'namespace="$namespace",server="$server"'
ENGINES = Engines(SERVER)
PODS = ("pod",)


def said(gauge: str, more: str = "") -> str:
    """One of the operator's gauges of this server; two operators that change over say the same."""
    inside = ",".join(filter(None, (SERVER, more)))
    return f"max(vllm_operator_{gauge}{{{inside}}})"


def objective(latency: str, variable: str) -> str:
    """Seconds of the server's own objective, else the chart's, of which 0 is none."""
    own = said("objective_seconds", f'latency="{latency}"')
    return either([own, f"vector(${variable}) > 0"])


def kept(latency: str, variable: str) -> str:
    """The share that is as fast as the objective asks, by the bucket that stands for it."""
    picked = f'vllm_operator_objective_ratio{{{SERVER},latency="{latency}"}}'
    chart = f'label_replace(vector(1), "le", "${variable}_edge", "", "")'
    edge = f"(group by (le) ({picked}) or on () {chart})"
    buckets = total(ENGINES.rate(latency, "bucket"), ("le",))
    whole = total(ENGINES.rate(latency, "count"))
    return f"sum({buckets} * on (le) {edge}) / ({whole} > 0)"


def percentiles(meaning: str) -> list[Query]:
    """P50, P90 and P99 of a histogram."""
    return [
        Query(ENGINES.quantile(share, meaning), f"P{share * 100:g}") for share in (0.5, 0.9, 0.99)
    ]


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
CACHE = Row(
    "KV cache",
    [
        Panel(
            "Used",
            "Of each engine.",
            "percentunit",
            [
                Query(total(ENGINES.now("kvCacheUsage"), PODS, "max"), "{{pod}}"),
                Query("vector($cache_usage)", "target"),
            ],
        ),
        Panel(
            "Preempted",
            "Requests that lost their place in a full cache and are computed again, of those that "
            "end.",
            "percentunit",
            [
                Query(
                    ratio(ENGINES.rate("preemptions"), ENGINES.rate("finishedRequests")),
                    "preempted",
                ),
                Query("vector($preemptions)", "target"),
            ],
        ),
        Panel(
            "Measured over planned",
            "Blocks that an engine has over those that the plan expected, less 1.",
            "percentunit",
            [Query(f"vllm_operator_kv_cache_error_ratio{{{SERVER}}}", "off by")],
            width=4,
        ),
        Panel(
            "Planned",
            "Tokens that the KV cache of one engine is expected to hold.",
            TOKENS,
            [Query(said("plan_kv_cache_tokens"), "expected")],
            "number",
            4,
        ),
    ],
)
PREFIXES = Row(
    "Prefix cache",
    [
        Panel(
            "Hit rate",
            "Prompt tokens that were found in the cache, of all that were looked for.",
            "percentunit",
            [
                Query(
                    ratio(ENGINES.rate("prefixCacheHits"), ENGINES.rate("prefixCacheQueries")),
                    "found",
                ),
                Query("vector($hit_ratio)", "target"),
            ],
            width=12,
        ),
        Panel(
            "Prompt tokens looked for",
            "What is found is not computed again.",
            TOKENS_A_SECOND,
            [
                Query(total(ENGINES.rate("prefixCacheHits")), "found"),
                Query(
                    f"{total(ENGINES.rate('prefixCacheQueries'))} - "
                    f"{total(ENGINES.rate('prefixCacheHits'))}",
                    "computed",
                ),
            ],
            width=12,
        ),
    ],
)
SPECULATION = Row(
    "Speculative decoding",
    [
        Panel(
            "Acceptance",
            "Drafted tokens that the model would have said too. Empty without "
            "spec.engine.speculative.",
            "percentunit",
            [
                Query(
                    ratio(
                        ENGINES.rate("specDecodeAcceptedTokens"),
                        ENGINES.rate("specDecodeDraftTokens"),
                    ),
                    "accepted",
                )
            ],
            width=12,
        ),
        Panel(
            "Tokens of a step of one request",
            "1 without drafts; what it costs to draft and to verify is not in it.",
            TOKENS,
            [
                Query(
                    "1 + "
                    + ratio(
                        ENGINES.rate("specDecodeAcceptedTokens"), ENGINES.rate("specDecodeDrafts")
                    ),
                    "mean",
                )
            ],
            width=12,
        ),
    ],
)
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
BOARD = Board(
    uid="vllm-server",
    title="vLLM server",
    about="One VLLMServer: its traffic, its latency, what bounds it, its caches, its plan.",
    rows=[
        *(OVERVIEW, TRAFFIC, LATENCY, BATCH, CACHE, PREFIXES, SPECULATION, PLAN, TUNING, PROCESSES)
    ],
    of_one_server=True,
)
