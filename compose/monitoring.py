"""Writes what Prometheus and Grafana read: rules with alerts, and the dashboards *Run* and *Fleet*, for compose and for Kubernetes.

python compose/monitoring.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
WORKERS = ("pipeline", "inference", "grading", "training", "reporting")


class Panel(NamedTuple):
    """One picture: what is asked of Prometheus, and how the lines are called."""

    title: str
    expr: str
    legend: str = ""
    unit: str = "short"


RECORDED = {
    "overproof:tokens:rate5m": "sum by (role, kind) (rate(overproof_tokens_total[5m]))",
    "overproof:verdict_ratio:rate15m": "sum by (verdict) (rate(overproof_verdicts_total[15m])) "
    "/ ignoring(verdict) group_left sum(rate(overproof_verdicts_total[15m]))",
    "overproof:shard_seconds:p95_15m": "histogram_quantile(0.95, sum by (stage, le) (rate(overproof_shard_seconds_bucket[15m])))",
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

RUN = (
    Panel("Accuracy", "overproof_eval_accuracy_ratio", "{{role}} {{model}}", "percentunit"),
    Panel("Accuracy, lower end", "overproof_eval_accuracy_ci_low_ratio", "{{role}} {{model}}", "percentunit"),
    Panel("Accuracy, upper end", "overproof_eval_accuracy_ci_high_ratio", "{{role}} {{model}}", "percentunit"),
    Panel("Tokens per completion, by model", "overproof_eval_tokens_mean", "{{role}} {{model}}"),
    Panel("Tokens per completion, by round", "overproof_round_tokens_mean", "{{role}} {{problems}} {{round}}"),
    Panel(
        "Cut at the limit, by round",
        "overproof_round_truncated_ratio",
        "{{role}} {{problems}} {{round}}",
        "percentunit",
    ),
    Panel(
        "Verdicts, by round",
        "overproof_round_verdict_ratio",
        "{{role}} {{problems}} {{round}} {{verdict}}",
        "percentunit",
    ),
    Panel("Training problems kept", "overproof_round_kept_ratio", "{{round}} {{policy}}", "percentunit"),
    Panel("Training loss", "overproof_training_loss", "{{split}}"),
    Panel("Training tokens per second", "overproof_training_tokens_per_second"),
    Panel("Runs", "overproof_runs", "{{state}}"),
)

FLEET = (
    Panel("Queue length", "overproof_queue_length", "{{queue}}"),
    Panel("Oldest waiting message", "overproof_queue_oldest_message_age_seconds", "{{queue}}", "s"),
    Panel("Messages under way", "overproof_queue_taken", "{{queue}}"),
    Panel("Shards under way", "overproof_leases", "{{stage}}"),
    Panel(
        "Workers alive",
        "count by (service) (time() - overproof_worker_heartbeat_timestamp_seconds < 60)",
        "{{service}}",
    ),
    Panel("Tokens per second", "overproof:tokens:rate5m", "{{role}} {{kind}}"),
    Panel(
        "Shards by outcome",
        "sum by (stage, outcome) (rate(overproof_shards_total[5m]))",
        "{{stage}} {{outcome}}",
        "ops",
    ),
    Panel("Seconds per shard, p95", "overproof:shard_seconds:p95_15m", "{{stage}}", "s"),
    Panel("Claims", "sum by (answer) (rate(overproof_claims_total[5m]))", "{{answer}}", "ops"),
    Panel("Verdict shares", "overproof:verdict_ratio:rate15m", "{{verdict}}", "percentunit"),
    Panel(
        "Gateway, p95 seconds",
        "histogram_quantile(0.95, sum by (route, le) (rate(http_request_duration_seconds_bucket[5m])))",
        "{{route}}",
        "s",
    ),
    Panel("Storage, free share", "overproof_storage_free_bytes / overproof_storage_size_bytes", "", "percentunit"),
    Panel("KV cache in use (vLLM)", "vllm:kv_cache_usage_perc", "{{model_name}}", "percentunit"),
)
DASHBOARDS = {"run": ("Overproof: Run", RUN), "fleet": ("Overproof: Fleet", FLEET)}


def rules() -> dict[str, Any]:
    """The rule groups, as Prometheus and the Prometheus operator know them."""
    alerts = [
        {"alert": name, "expr": expr, "for": wait, "labels": {"severity": "warning"}, "annotations": {"summary": text}}
        for name, expr, wait, text in ALERTS
    ]
    records = [{"record": name, "expr": expr} for name, expr in RECORDED.items()]
    return {"groups": [{"name": "overproof", "rules": records}, {"name": "overproof-alerts", "rules": alerts}]}


def dashboard(uid: str, title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """Grafana's JSON: three panels a row, all of the data source `prometheus`."""
    source = {"type": "prometheus", "uid": "prometheus"}
    return {
        "uid": f"overproof-{uid}",
        "title": title,
        "tags": ["overproof"],
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "panels": [
            {
                "id": number + 1,
                "type": "timeseries",
                "title": panel.title,
                "datasource": source,
                "gridPos": {"x": 8 * (number % 3), "y": 8 * (number // 3), "w": 8, "h": 8},
                "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                "targets": [{"refId": "A", "expr": panel.expr, "legendFormat": panel.legend, "datasource": source}],
            }
            for number, panel in enumerate(panels)
        ],
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
    for uid, (title, panels) in DASHBOARDS.items():
        for folder in (ROOT / "compose" / "grafana" / "dashboards", ROOT / "k8s" / "components" / "monitoring"):
            written[folder / f"{uid}.json"] = dashboard(uid, title, panels)
    return {path: json.dumps(value, indent=1, ensure_ascii=False) + "\n" for path, value in written.items()}


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
