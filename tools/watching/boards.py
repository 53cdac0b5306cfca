"""Dashboards as Grafana reads them, put together by its typed SDK."""

from typing import Any

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import (
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from watching.panels import Board, Panel, Query
from watching.targets import BY_VARIABLE, PERCENTILE, le

SOURCE = models.DataSourceRef(type_val="prometheus", uid="$datasource")
TAG = "vllm-operator"
DASHED = {"fill": "dash", "dash": [10, 10]}
AIMED_AT = "/^(objective|target|limit|predicted.*|asked for)$/"
"""Names of series that nobody measured: drawn dashed."""
SERVERS = "vllm_operator_replicas"
"""Of every server that there is, whether it is scraped or not."""


def made(board: Board) -> str:
    """The dashboard's JSON, for Grafana 10 and newer."""
    builder = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags([TAG])
        .timezone("browser")
        .time("now-3h", "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("vLLM")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
        )
        .variables(_variables(board))
    )
    number = 0
    for row in board.rows:
        builder = builder.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            number += 1
            builder = builder.with_panel(_panel(panel, number))
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(builder.build()) + "\n"


def _variables(board: Board) -> list[Any]:
    found: list[Any] = [
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    ]
    namespace = (
        dashboard.QueryVariable("namespace")
        .label("Namespace")
        .query(f"label_values({SERVERS}, namespace)")
    )
    found.append(_asked(namespace, all_of_them=not board.of_one_server))
    if board.of_one_server:
        server = (
            dashboard.QueryVariable("server")
            .label("Server")
            .query(f'label_values({SERVERS}{{namespace="$namespace"}}, server)')
        )
        found.append(_asked(server, all_of_them=False))
    constants = {name: one.number for name, one in BY_VARIABLE.items()}
    for name, one in BY_VARIABLE.items():
        if one.latency:
            constants[f"{name}_edge"] = le(one.default / 1000)
    constants["percentile"] = f"{PERCENTILE / 100:g}"
    asked = " ".join(query.expr for panel in board.panels for query in panel.queries)
    return found + [
        dashboard.ConstantVariable(name).value(value)
        for name, value in constants.items()
        if f"${name}" in asked
    ]


def _asked(variable: Any, all_of_them: bool) -> Any:
    variable = (
        variable.datasource(SOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    return variable.include_all(True).all_value(".*").multi(True) if all_of_them else variable


def _panel(panel: Panel, number: int) -> Any:
    make = {
        "lines": _lines,
        "number": _number,
        "words": _words,
        "states": _states,
        "table": _table,
    }[panel.kind]
    builder = (
        make(panel)
        .id(number)
        .title(panel.title)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(panel.width)
        .height(panel.height)
    )
    builder = builder.description(panel.about) if panel.about else builder
    for place, query in enumerate(panel.queries):
        builder = builder.with_target(_target(panel, query, "ABCDEFGHIJ"[place]))
    return builder


def _target(panel: Panel, query: Query, letter: str) -> Any:
    target = (
        prometheus.Dataquery().expr(query.expr).ref_id(letter).legend_format(query.called)
    ).datasource(SOURCE)
    if panel.kind == "table":
        return target.instant().format(PromQueryFormat.TABLE)
    return target.instant() if panel.kind in ("number", "words") else target.range()


def _lines(panel: Panel) -> Any:
    builder = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            options.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(options.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        .override_by_regexp(
            AIMED_AT,
            [
                models.DynamicConfigValue(id_val="custom.lineStyle", value=DASHED),
                models.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
            ],
        )
    )
    return builder if panel.title == "Measured over planned" else builder.min(0)


def _number(panel: Panel) -> Any:
    return (
        stat.Panel()
        .graph_mode(common.BigValueGraphMode.NONE)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def _words(panel: Panel) -> Any:
    """Of a series whose labels say it: its name instead of its value."""
    return (
        stat.Panel()
        .graph_mode(common.BigValueGraphMode.NONE)
        .text_mode(common.BigValueTextMode.NAME)
        .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def _states(panel: Panel) -> Any:
    return statetimeline.Panel().merge_values(True).show_value(common.VisibilityMode.NEVER)


def _table(panel: Panel) -> Any:
    """One line for each server, one column for each query."""
    columns = {
        f"Value #{'ABCDEFGHIJ'[place]}": one.called for place, one in enumerate(panel.queries)
    }
    names = {"namespace": "namespace", "server": "server", **columns}
    builder = (
        table.Panel()
        .with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {name: place for place, name in enumerate(names)},
                    "renameByName": columns,
                },
            )
        )
        .override_by_name(
            "server",
            [
                models.DynamicConfigValue(
                    id_val="links",
                    value=[
                        {
                            "title": "its dashboard",
                            "url": "/d/vllm-server?var-namespace=${__data.fields.namespace}"
                            "&var-server=${__data.fields.server}",
                        }
                    ],
                )
            ],
        )
    )
    for name, unit in panel.units:
        builder = builder.override_by_name(
            name, [models.DynamicConfigValue(id_val="unit", value=unit)]
        )
    return builder
