"""The dashboard of all servers."""

from watching.panels import TOKENS_A_SECOND, Board, Panel, Query, Row
from watching.queries import BY_SERVER, Engines, ratio, total

SERVERS = 'namespace=~"$namespace",server!=""'
ENGINES = Engines(SERVERS)
NAMED = "{{namespace}}/{{server}}"


def said(gauge: str) -> str:
    """One of the operator's gauges by server; two operators that change over say the same."""
    return total(f"vllm_operator_{gauge}{{{SERVERS}}}", BY_SERVER, "max")


def in_states(gauge: str) -> str:
    """Servers by the state that one of these gauges says of them."""
    each = total(f"vllm_operator_{gauge}{{{SERVERS}}}", (*BY_SERVER, "state"), "group")
    return f"count by (state) ({each})"


OUTPUT = total(ENGINES.rate("generationTokens"), BY_SERVER)
FIRST = ENGINES.quantile(0.95, "timeToFirstToken", BY_SERVER)
GAP = ENGINES.quantile(0.95, "interTokenLatency", BY_SERVER)
USAGE = total(ENGINES.now("kvCacheUsage"), BY_SERVER, "max")
WAITING = total(ENGINES.now("requestsWaiting"), BY_SERVER)
RUNNING = total(ENGINES.now("requestsRunning"), BY_SERVER)
HITS = ratio(ENGINES.rate("prefixCacheHits"), ENGINES.rate("prefixCacheQueries"), BY_SERVER)
PREEMPTED = ratio(ENGINES.rate("preemptions"), ENGINES.rate("finishedRequests"), BY_SERVER)

OVERVIEW = Row(
    "Overview",
    [
        Panel(
            "Servers",
            "By their state.",
            "none",
            [Query(in_states("server_state"), "{{state}}")],
            "number",
            8,
            4,
        ),
        Panel(
            "GPUs of ready replicas",
            "As the plans in force have them.",
            "none",
            [Query(f"sum({said('ready_replicas')} * {said('plan_gpus')})", "GPUs")],
            "number",
            4,
            4,
        ),
        Panel(
            "Output",
            "Of all servers.",
            TOKENS_A_SECOND,
            [Query(total(ENGINES.rate("generationTokens")), "output")],
            "number",
            4,
            4,
        ),
        Panel(
            "Requests that end",
            "Of all servers.",
            "reqps",
            [Query(total(ENGINES.rate("finishedRequests")), "requests")],
            "number",
            4,
            4,
        ),
        Panel(
            "Requests that wait",
            "Of all servers.",
            "none",
            [Query(total(ENGINES.now("requestsWaiting")), "waiting")],
            "number",
            4,
            4,
        ),
        Panel(
            "Each server",
            "The last minutes; a click on a server opens its own dashboard.",
            "none",
            [
                Query(said("ready_replicas"), "ready"),
                Query(RUNNING, "running"),
                Query(WAITING, "waiting"),
                Query(OUTPUT, "output"),
                Query(FIRST, "first token P95"),
                Query(GAP, "between tokens P95"),
                Query(USAGE, "KV cache"),
                Query(HITS, "hit rate"),
            ],
            "table",
            24,
            10,
            units=(
                ("output", TOKENS_A_SECOND),
                ("first token P95", "s"),
                ("between tokens P95", "s"),
                ("KV cache", "percentunit"),
                ("hit rate", "percentunit"),
            ),
        ),
    ],
)
SERVED = Row(
    "By server",
    [
        Panel("Output", "Tokens of all replicas.", TOKENS_A_SECOND, [Query(OUTPUT, NAMED)]),
        Panel("Time to the first token, P95", "Of all replicas.", "s", [Query(FIRST, NAMED)]),
        Panel("Time between tokens, P95", "Of all replicas.", "s", [Query(GAP, NAMED)]),
        Panel(
            "KV cache used",
            "Of the fullest engine.",
            "percentunit",
            [Query(USAGE, NAMED), Query("vector($cache_usage)", "target")],
        ),
        Panel(
            "Prefix cache hit rate",
            "Prompt tokens that were found, of all that were looked for.",
            "percentunit",
            [Query(HITS, NAMED), Query("vector($hit_ratio)", "target")],
        ),
        Panel(
            "Preempted",
            "Of the requests that end.",
            "percentunit",
            [Query(PREEMPTED, NAMED), Query("vector($preemptions)", "target")],
        ),
    ],
)
OPERATOR = Row(
    "Operator and tuning",
    [
        Panel(
            "Visits",
            "Of servers, by result; requeued is harmless.",
            "ops",
            [
                Query(
                    "sum by (result) (rate(vllm_operator_reconciles_total[$__rate_interval]))",
                    "{{result}}",
                )
            ],
        ),
        Panel(
            "Length of a visit",
            "",
            "s",
            [
                Query(
                    "histogram_quantile(0.99, sum by (le) "
                    "(rate(vllm_operator_reconcile_duration_seconds_bucket[$__rate_interval])))",
                    "P99",
                )
            ],
        ),
        Panel(
            "Writes",
            "By kind of object. None while nothing changes.",
            "ops",
            [
                Query(
                    "sum by (kind) (rate(vllm_operator_writes_total[$__rate_interval]))", "{{kind}}"
                )
            ],
        ),
        Panel(
            "Servers by state of tuning",
            "None where nothing is tuned.",
            "none",
            [Query(in_states("tuning_state"), "{{state}}")],
        ),
        Panel(
            "Trials that ended",
            "By verdict, within the hour before.",
            "none",
            [
                Query(
                    "sum by (verdict) (increase(vllm_operator_tuning_trials_total[1h]))",
                    "{{verdict}}",
                )
            ],
        ),
        Panel(
            "Queries to Prometheus",
            "Of the operator, by result; none where it was given no Prometheus.",
            "ops",
            [
                Query(
                    "sum by (result) "
                    "(rate(vllm_operator_prometheus_queries_total[$__rate_interval]))",
                    "{{result}}",
                )
            ],
        ),
    ],
)
BOARD = Board(
    uid="vllm-fleet",
    title="vLLM servers",
    about="All VLLMServers, and the operator that runs them.",
    rows=[OVERVIEW, SERVED, OPERATOR],
    of_one_server=False,
)
