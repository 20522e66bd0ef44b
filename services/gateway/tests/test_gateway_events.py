"""Events as a list and as a stream."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from overproof.gateway.adapters import event_stream as stream_module
from overproof.gateway.app import create_app
from overproof.gateway.settings import GatewaySettings
from overproof.shared.runs import Runs, RunState

RUN = "2026-11-24-aaaaaa"


class Sent(NamedTuple):
    event: str
    id: str | None
    data: Any


def read_stream(text: str) -> list[Sent]:
    found = []
    for block in text.split("\n\n"):
        lines = [line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")]
        fields = {key: value for key, value in lines}
        if fields:
            found.append(Sent(fields["event"], fields.get("id"), json.loads(fields["data"])))
    return found


@pytest.fixture
def happen(runs: Runs, add_run: Callable[..., Any]) -> Callable[[int], None]:
    def make(count: int) -> None:
        for number in range(count):
            runs.add_event(
                RUN, level="info", type="stage.done", message=f"stage {number}\nsecond line", data={"n": number}
            )

    return make


def test_events_come_in_pages(client: TestClient, add_run: Callable[..., Any], happen: Callable[[int], None]) -> None:
    add_run(RUN)
    happen(5)
    first = client.get(f"/v1/runs/{RUN}/events?limit=3").json()
    assert ([event["seq"] for event in first["data"]], first["has_more"]) == ([1, 2, 3], True)
    rest = client.get(f"/v1/runs/{RUN}/events?after=3&limit=3").json()
    assert ([event["seq"] for event in rest["data"]], rest["has_more"]) == ([4, 5], False)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_events_of_an_unknown_run_are_not_found(client: TestClient, accept: str) -> None:
    assert client.get(f"/v1/runs/{RUN}/events", headers={"accept": accept}).status_code == 404


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "POLL_SECONDS", 0.02)


@pytest.mark.usefixtures("quick")
def test_the_stream_of_an_ended_run_tells_all_and_ends(
    client: TestClient, add_run: Callable[..., Any], happen: Callable[[int], None]
) -> None:
    add_run(RUN, state=RunState.SUCCEEDED)
    happen(3)
    response = client.get(f"/v1/runs/{RUN}/events", headers={"accept": "text/event-stream"})
    assert response.headers["content-type"].startswith("text/event-stream")
    sent = read_stream(response.text)
    assert [(one.event, one.id) for one in sent] == [
        ("stage.done", "1"), ("stage.done", "2"), ("stage.done", "3"), ("progress", None), ("end", None),
    ]  # fmt: skip
    assert sent[0].data["message"] == "stage 0\nsecond line"
    assert sent[-1].data["state"] == "succeeded"


@pytest.mark.usefixtures("quick")
def test_the_stream_goes_on_after_the_last_event_that_the_client_saw(
    client: TestClient, add_run: Callable[..., Any], happen: Callable[[int], None]
) -> None:
    add_run(RUN, state=RunState.FAILED)
    happen(250)
    headers = {"accept": "text/event-stream", "last-event-id": "100"}
    sent = read_stream(client.get(f"/v1/runs/{RUN}/events?after=5", headers=headers).text)
    assert [one.id for one in sent if one.id] == [str(number) for number in range(101, 251)]


@contextmanager
def serving(settings: GatewaySettings) -> Iterator[tuple[str, Any]]:
    """A real server, since streams that last need one."""
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", app
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.usefixtures("quick")
def test_a_stream_follows_a_run_to_its_end(
    settings: GatewaySettings, runs: Runs, add_run: Callable[..., Any], happen: Callable[[int], None]
) -> None:
    add_run(RUN, state=RunState.RUNNING)
    with serving(settings) as (url, app):
        lines: list[str] = []
        with httpx.stream(
            "GET", f"{url}/v1/runs/{RUN}/events", headers={"accept": "text/event-stream"}, timeout=10
        ) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                if line == "event: progress" and lines.count("event: progress") == 1:
                    happen(1)
                if line == "event: stage.done":
                    add_run(RUN, state=RunState.SUCCEEDED)
        assert app.state.streams.open == 0
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert events == ["progress", "stage.done", "progress", "end"]


def test_a_silent_stream_is_kept_alive_and_freed_when_the_client_leaves(
    settings: GatewaySettings, add_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(stream_module, "KEEPALIVE_SECONDS", 0.05)
    add_run(RUN, state=RunState.RUNNING)
    with serving(settings.model_copy(update={"max_event_streams": 1})) as (url, app):
        path, headers = f"{url}/v1/runs/{RUN}/events", {"accept": "text/event-stream"}
        with httpx.stream("GET", path, headers=headers, timeout=10) as answer:
            lines = answer.iter_lines()
            assert any(line.startswith(":") for line in lines)
            assert httpx.get(path, headers=headers).json()["type"] == "urn:overproof:error:busy"
        deadline = time.monotonic() + 5
        while app.state.streams.open and time.monotonic() < deadline:
            time.sleep(0.02)
        assert app.state.streams.open == 0


@pytest.mark.usefixtures("quick")
def test_a_gateway_that_ends_ends_its_streams(settings: GatewaySettings, add_run: Callable[..., Any]) -> None:
    add_run(RUN, state=RunState.RUNNING)
    with (
        serving(settings) as (url, app),
        httpx.stream(
            "GET", f"{url}/v1/runs/{RUN}/events", headers={"accept": "text/event-stream"}, timeout=10
        ) as answer,
    ):
        for line in answer.iter_lines():
            if line.startswith("event: progress"):
                app.state.context.closing.set()
    assert answer.is_stream_consumed
