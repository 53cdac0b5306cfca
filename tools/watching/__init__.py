"""Makes what people watch servers with: Grafana dashboards, recording and alerting rules.

Written into the chart by `make generate`. The names of vLLM's metrics are those of the operator's
table, of every version that it plans: a query asks for the newest name, and for older ones where
that is not there.
"""
