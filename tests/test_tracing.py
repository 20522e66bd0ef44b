"""One run's spans and log lines across services that run as processes of their own, received by a small OTLP/HTTP server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from installation import ROOT
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from overproof.cli.local.ports import free_ports
from overproof.shared import container
from overproof.shared.tracing import TracingUnavailable

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
REQUEST = "asked-by-the-test"
RECIPE = {
    "name": "traced",
    "data": {
        "train": {"generator": "demo-math", "split": "train", "n": 20},
        "test": {"generator": "demo-math", "split": "test", "n": 5},
    },
    "models": {"teacher": "teacher", "student": "student"},
    "sampling": {"max_tokens": 200},
    "evaluation": {"max_tokens": 200},
    "engine": {"kind": "transformers"},
}


class Span(NamedTuple):
    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str]


class Collector:
    """Keeps what is posted to /v1/traces."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/v1/traces":
                    collector.spans += spans_of(asked)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def spans_of(asked: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in asked.resource_spans:
        about = {one.key: one.value.string_value for one in resource.resource.attributes}
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            attributes = {
                one.key: one.value.string_value or str(one.value.int_value or one.value.bool_value)
                for one in span.attributes
            }
            ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
            yield Span(about["service.name"], span.name, *ids, attributes)


class Stack:
    """Gateway, pipeline and grading, on a storage of their own; `end` gives what they logged."""

    def __init__(self, folder: Path, redis_url: str, environ: dict[str, str]) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = {
            "PATH": os.environ["PATH"], "OVERPROOF_REDIS_URL": redis_url, "OVERPROOF_STORAGE": str(folder / "storage"),
            "OVERPROOF_MODEL_ROOT": str(ROOT / "demo" / "models"), "OVERPROOF_PORT": str(self.port), "OVERPROOF_LOG_JSON": "true",
        } | environ  # fmt: skip
        self.processes = {name: self._start(folder, name) for name in ("gateway", "pipeline", "grading")}
        self.folder = folder

    def _start(self, folder: Path, service: str) -> subprocess.Popen[bytes]:
        with (folder / f"{service}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"overproof.{service}"], env=self.environ, cwd=folder, stderr=log
            )

    def end(self) -> list[dict[str, Any]]:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(30)
        logs = (self.folder / f"{name}.log" for name in self.processes)
        return [json.loads(line) for log in logs for line in log.read_text().splitlines() if line.startswith("{")]


def submit(stack: Stack) -> str:
    """As a client that traces would; returns the run's id once its gold answers were checked."""
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": REQUEST}
    end = time.monotonic() + 90
    run_id = ""
    with httpx.Client(base_url=stack.url) as client:
        while time.monotonic() < end:
            try:
                if not run_id:
                    answer = client.post("/v1/runs", json={"recipe": RECIPE}, headers=headers)
                    assert (answer.status_code, answer.headers["X-Request-ID"]) == (201, REQUEST), answer.text
                    run_id = answer.json()["id"]
                stages = client.get(f"/v1/runs/{run_id}").json()["stages"]
                checks = [one for one in stages if one["stage"] == "check_gold"]
                if checks and all(one["state"] == "done" for one in checks):
                    return str(run_id)
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise AssertionError(f"the run did not get there; logs in {stack.folder}")


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, redis_server: Any) -> tuple[str, list[Span], list[dict[str, Any]]]:
    """A run's id, its spans, and what was logged."""
    redis_server.wipe()
    collector, folder = Collector(), tmp_path_factory.mktemp("traced")
    with ExitStack() as after:
        stack = Stack(folder, redis_server.url, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
        after.callback(stack.end)
        run_id = submit(stack)
        lines = stack.end()
    return run_id, [span for span in collector.spans if span.trace == TRACE], lines


def test_spans_of_a_run_are_one_trace_from_the_client_to_the_worker(traced: tuple[str, list[Span], Any]) -> None:
    run_id, spans, _ = traced
    by_id = {span.id: span for span in spans}

    def ancestry(span: Span) -> list[tuple[str, str]]:
        above = by_id.get(span.parent)
        return [(span.service, span.name), *(ancestry(above) if above else [])]

    (asked,) = [span for span in spans if span.name == "POST /v1/runs"]
    assert asked.parent == PARENT
    assert asked.attributes["http.response.status_code"] == "201"
    checked = next(span for span in spans if span.name == "grading.check")
    assert ancestry(checked) == [
        ("grading", "grading.check"),
        ("pipeline", "send grading.check"),
        ("gateway", "POST /v1/runs"),
    ]
    assert checked.attributes["overproof.run_id"] == run_id
    assert checked.attributes["overproof.outcome"] == "published"
    told = next(
        span for span in spans if span.name == "pipeline.shard_done" and by_id[span.parent].service == "grading"
    )
    assert told.service == "pipeline"


def test_log_lines_of_every_service_carry_the_ids_of_the_request_and_the_run(
    traced: tuple[str, Any, list[dict[str, Any]]],
) -> None:
    run_id, _, lines = traced
    shard = next(line for line in lines if line["service"] == "grading" and line.get("stage") == "check_gold")
    assert (shard["run_id"], shard["shard"], shard["request_id"], shard["trace_id"]) == (run_id, 0, REQUEST, TRACE)
    assert {line["service"] for line in lines if line.get("request_id") == REQUEST} == {
        "gateway",
        "pipeline",
        "grading",
    }


def test_no_exporter_is_loaded_without_an_endpoint() -> None:
    program = (
        "import sys; from overproof.shared import telemetry, tracing, worker; from overproof.shared.settings import Settings;"
        "from overproof.shared.topology import Service; telemetry.configure(Settings(), Service.GRADING);"
        "print(tracing.carried(), [n for n in sys.modules if n.startswith(('opentelemetry.sdk.trace', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    )
    assert done.stdout.strip() == "{} []"


@pytest.mark.parametrize(
    ("environ", "remedy"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "Set it to http/protobuf"),
        ({"without": "opentelemetry"}, r"Install 'overproof-shared\[tracing\]'"),
    ],
)
def test_container_says_why_it_cannot_trace(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], remedy: str
) -> None:
    if "without" in environ:
        monkeypatch.setattr("overproof.shared.tracing.find_spec", lambda _: None)
    with pytest.raises(TracingUnavailable, match=remedy):
        container.check({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"} | environ)
