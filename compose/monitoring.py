"""Writes what Prometheus and Grafana read: rules with alerts, and the dashboards *Run* and *Fleet*, for compose and for Kubernetes.

python compose/monitoring.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]


class Panel(NamedTuple):
    """One picture: what is asked of Prometheus, and how the lines are called."""

    title: str
    expr: str
    legend: str = ""
    unit: str = "short"
    about: str = ""


def p95(histogram: str, labels: str, window: str = "5m") -> str:
    """The 95th percentile of a histogram, by labels."""
    return f"histogram_quantile(0.95, sum by ({labels}, le) (rate({histogram}_bucket[{window}])))"


RECORDED = {
    "overproof:tokens:rate5m": "sum by (role, kind) (rate(overproof_tokens_total[5m]))",
    "overproof:verdict_ratio:rate15m": "sum by (verdict) (rate(overproof_verdicts_total[15m])) "
    "/ ignoring(verdict) group_left sum(rate(overproof_verdicts_total[15m]))",
    "overproof:shard_seconds:p95_15m": p95("overproof_shard_seconds", "stage", "15m"),
}

ALERTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "OverproofQueueWithoutWorker",
        "(overproof_queue_length > 0 and overproof_queue_oldest_message_age_seconds > 300) unless on (queue) "
        'label_replace(max by (service) (time() - overproof_worker_heartbeat_timestamp_seconds < 120), "queue", "$1", "service", "(.*)")',
        "5m",
        "Messages wait in {{ $labels.queue }} and no worker of it shows a sign of life: start one.",
    ),
    (
        "OverproofGradingTimeouts",
        'overproof:verdict_ratio:rate15m{verdict="timeout"} > 0.01',
        "15m",
        "More than 1 % of the verdicts are timeouts: they count as not correct. Look at the answers, or raise seconds_per_answer.",
    ),
    (
        "OverproofRunOverdue",
        "overproof_runs_oldest_running_seconds > 86400",
        "10m",
        "A run has been running for more than a day: look at it with `overproof ls`.",
    ),
    (
        "OverproofStorageNearlyFull",
        "overproof_storage_free_bytes / overproof_storage_size_bytes < 0.1",
        "10m",
        "Less than a tenth of the storage is free; work stops by itself when it is full.",
    ),
    (
        "OverproofPipelineStands",
        "time() - max(overproof_reconciler_last_success_timestamp_seconds) > 120",
        "2m",
        "No pipeline has looked at the runs for two minutes: nothing new is sent.",
    ),
    (
        "OverproofRedisAway",
        "overproof_redis_up == 0",
        "2m",
        "Redis does not answer the gateway; work under way goes on.",
    ),
    (
        "OverproofPoison",
        'increase(overproof_claims_total{answer="poison"}[30m]) > 0',
        "0m",
        "A shard of {{ $labels.stage }} was given up after all its attempts: look at its failure, then resume the run.",
    ),
)

RUN: dict[str, tuple[Panel, ...]] = {
    "Is it better? The newest comparison": (
        Panel("Accuracy", "overproof_eval_accuracy_ratio", "{{role}} {{model}}", "percentunit"),
        Panel(
            "Accuracy, lower end",
            "overproof_eval_accuracy_ci_low_ratio",
            "{{role}} {{model}}",
            "percentunit",
            "Two models whose ends do not overlap differ; for those that do, see the report's paired test.",
        ),
        Panel("Accuracy, upper end", "overproof_eval_accuracy_ci_high_ratio", "{{role}} {{model}}", "percentunit"),
        Panel("Tokens per completion, by model", "overproof_eval_tokens_mean", "{{role}} {{model}}"),
        Panel("Cut at the limit, by model", "overproof_eval_truncated_ratio", "{{role}} {{model}}", "percentunit"),
        Panel("Runs", "overproof_runs", "{{state}}"),
    ),
    "Trends by round": (
        Panel("Tokens per completion", "overproof_round_tokens_mean", "{{role}} {{problems}} {{round}}"),
        Panel(
            "Cut at the limit",
            "overproof_round_truncated_ratio",
            "{{role}} {{problems}} {{round}}",
            "percentunit",
            "A teacher that is cut often teaches nothing on the hard problems: raise sampling.max_tokens.",
        ),
        Panel(
            "Verdicts", "overproof_round_verdict_ratio", "{{role}} {{problems}} {{round}} {{verdict}}", "percentunit"
        ),
        Panel("Training problems kept", "overproof_round_kept_ratio", "{{round}} {{policy}}", "percentunit"),
    ),
    "Training": (
        Panel(
            "Loss",
            "overproof_training_loss",
            "{{split}}",
            "short",
            "Validation that rises while training falls: stop sooner.",
        ),
        Panel("Tokens per second", "overproof_training_tokens_per_second"),
        Panel("Share of the device's peak (MFU)", "overproof_training_mfu > 0", "", "percentunit"),
        Panel("Gradient norm", "overproof_training_grad_norm"),
        Panel("Learning rate", "overproof_training_learning_rate"),
        Panel("Device memory", "overproof_training_memory_bytes > 0", "", "bytes"),
        Panel("Probe: problems solved", "overproof_training_probe_accuracy", "", "percentunit"),
        Panel("Probe: tokens per solution", "overproof_training_probe_tokens_mean"),
    ),
}

FLEET: dict[str, tuple[Panel, ...]] = {
    "Queues and workers": (
        Panel("Queue length", "overproof_queue_length", "{{queue}}"),
        Panel("Oldest waiting message", "overproof_queue_oldest_message_age_seconds", "{{queue}}", "s"),
        Panel("Messages under way", "overproof_queue_taken", "{{queue}}"),
        Panel("Shards under way", "overproof_leases", "{{stage}}"),
        Panel(
            "Workers alive",
            "count by (service) (time() - overproof_worker_heartbeat_timestamp_seconds < 60)",
            "{{service}}",
        ),
        Panel("Redis answers", "overproof_redis_up"),
    ),
    "Work": (
        Panel("Tokens per second", "overproof:tokens:rate5m", "{{role}} {{kind}}"),
        Panel(
            "Shards by outcome",
            "sum by (stage, outcome) (rate(overproof_shards_total[5m]))",
            "{{stage}} {{outcome}}",
            "ops",
        ),
        Panel("Seconds per shard, p95", "overproof:shard_seconds:p95_15m", "{{stage}}", "s"),
        Panel("Claims", "sum by (answer) (rate(overproof_claims_total[5m]))", "{{answer}}", "ops"),
        Panel(
            "Leases lost",
            "sum by (stage) (rate(overproof_leases_lost_total[15m]))",
            "{{stage}}",
            "ops",
            "Now and then after a kill; all the time: a worker that cannot renew within lease_seconds.",
        ),
        Panel("Verdict shares", "overproof:verdict_ratio:rate15m", "{{verdict}}", "percentunit"),
        Panel("Sequences in the engine", "sum by (role) (overproof_sequences_running)", "{{role}}"),
        Panel("Sequences that wait", "sum by (role) (overproof_sequences_waiting)", "{{role}}"),
        Panel(
            "Time that models are at work",
            "sum by (role) (rate(overproof_model_busy_seconds_total[5m]))",
            "{{role}}",
            "percentunit",
        ),
        Panel(
            "Dollars for served models, by hour",
            "sum by (role) (increase(overproof_spent_usd_total[1h]))",
            "{{role}}",
            "currencyUSD",
            "Shards that were lost are in it; a run's own sum is not.",
        ),
    ),
    "Gateway and storage": (
        Panel(
            "Requests",
            "sum by (route, status) (rate(http_request_duration_seconds_count[5m]))",
            "{{route}} {{status}}",
            "reqps",
        ),
        Panel("Gateway, p95 seconds", p95("http_request_duration_seconds", "route"), "{{route}}", "s"),
        Panel("Storage, free share", "overproof_storage_free_bytes / overproof_storage_size_bytes", "", "percentunit"),
    ),
    "vLLM": (
        Panel("Requests running", "sum by (model_name) (vllm:num_requests_running)", "{{model_name}}"),
        Panel(
            "Requests waiting",
            "sum by (model_name) (vllm:num_requests_waiting)",
            "{{model_name}}",
            "short",
            "Always 0 and few running: shards are too small, or too few are in flight.",
        ),
        Panel("KV cache in use", "vllm:kv_cache_usage_perc", "{{model_name}}", "percentunit"),
        Panel(
            "Preemptions",
            "sum by (model_name) (rate(vllm:num_preemptions_total[5m]))",
            "{{model_name}}",
            "ops",
            "Sequences put back for want of KV cache are made twice: lower max_num_seqs.",
        ),
        Panel("Time to first token, p95", p95("vllm:time_to_first_token_seconds", "model_name"), "{{model_name}}", "s"),
        Panel("Time between tokens, p95", p95("vllm:inter_token_latency_seconds", "model_name"), "{{model_name}}", "s"),
        Panel("Time in the queue, p95", p95("vllm:request_queue_time_seconds", "model_name"), "{{model_name}}", "s"),
        Panel(
            "Generated tokens", "sum by (model_name) (rate(vllm:generation_tokens_total[5m]))", "{{model_name}}", "ops"
        ),
        Panel(
            "Prompt tokens found in the prefix cache",
            "sum by (model_name) (rate(vllm:prefix_cache_hits_total[5m])) "
            "/ sum by (model_name) (rate(vllm:prefix_cache_queries_total[5m]))",
            "{{model_name}}",
            "percentunit",
        ),
    ),
}
DASHBOARDS = {"run": ("Overproof: Run", RUN), "fleet": ("Overproof: Fleet", FLEET)}
PANELS = [panel for board in (RUN, FLEET) for row in board.values() for panel in row]
SOURCE = {"type": "prometheus", "uid": "${source}"}
COLUMNS, WIDTH, HEIGHT = 3, 8, 8
"""Of Grafana's grid, which is 24 wide."""


def rules() -> dict[str, Any]:
    """The rule groups, as Prometheus and the Prometheus operator know them."""
    alerts = [
        {"alert": name, "expr": expr, "for": wait, "labels": {"severity": "warning"}, "annotations": {"summary": text}}
        for name, expr, wait, text in ALERTS
    ]
    records = [{"record": name, "expr": expr} for name, expr in RECORDED.items()]
    return {"groups": [{"name": "overproof", "rules": records}, {"name": "overproof-alerts", "rules": alerts}]}


def dashboard(uid: str, title: str, rows: dict[str, tuple[Panel, ...]]) -> dict[str, Any]:
    """Grafana's JSON: rows of three panels, of a Prometheus that the reader may choose."""
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}
    return {
        "uid": f"overproof-{uid}",
        "title": title,
        "tags": ["overproof"],
        "editable": True,
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source]},
        "panels": list(_placed(rows)),
    }


def _placed(rows: dict[str, tuple[Panel, ...]]) -> Iterator[dict[str, Any]]:
    """A heading for each row, its panels below it from left to right."""
    y, number = 0, 0
    for heading, panels in rows.items():
        number += 1
        place = {"x": 0, "y": y, "w": COLUMNS * WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": heading, "collapsed": False, "gridPos": place, "panels": []}
        for i, panel in enumerate(panels):
            number += 1
            place = {"x": WIDTH * (i % COLUMNS), "y": y + 1 + HEIGHT * (i // COLUMNS), "w": WIDTH, "h": HEIGHT}
            yield _panel(number, panel, place)
        y += 1 + HEIGHT * -(-len(panels) // COLUMNS)


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    target = {"refId": "A", "expr": panel.expr, "legendFormat": panel.legend, "datasource": SOURCE}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [target],
    }


def files() -> dict[Path, str]:
    """What is written where. JSON is YAML too, so rules need no further library."""
    operator = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "overproof"},
        "spec": rules(),
    }
    written = {
        ROOT / "compose" / "prometheus" / "rules.yml": rules(),
        ROOT / "k8s" / "components" / "monitoring" / "rules.yaml": operator,
    }
    for uid, (title, rows) in DASHBOARDS.items():
        for folder in (ROOT / "compose" / "grafana" / "dashboards", ROOT / "k8s" / "components" / "monitoring"):
            written[folder / f"{uid}.json"] = dashboard(uid, title, rows)
    return {path: json.dumps(value, indent=1, ensure_ascii=False) + "\n" for path, value in written.items()}


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
