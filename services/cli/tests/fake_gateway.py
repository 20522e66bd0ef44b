"""A gateway that knows a few runs by heart: in the tests behind httpx.MockTransport, or served as a process of its own.

`python fake_gateway.py PORT MEMORY.json` keeps its runs in a file, as the real one keeps them in storage.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

REF = "sample/" + "a" * 32
TABLE = " model       accuracy         95% CI   tokens\n teacher        83.0%   [79.6, 86.1]    2,104\n"


def stage(label="sample · teacher · round 1 · pass 1", kind="sample", state="running", **fields):
    known = {"label": label, "stage": kind, "ref": REF, "state": state, "shards_done": 0, "rows": 0, "notes": {}}
    return known | fields


def status(state, *stages, **fields):
    known = {
        "name": "demo",
        "goal": "distil",
        "state": state,
        "wanted": "running",
        "created_at": 1000.0,
        "updated_at": 1001.0,
    }
    return known | {"stages": list(stages), "artifacts": {}} | fields


def page(data):
    return {"object": "list", "data": data, "has_more": False}


class FakeGateway:
    """Each GET of a run moves it one status on; the last one stays."""

    def __init__(self):
        self.statuses = [
            status("running", stage(shards_done=1, shards_total=4)),
            status("succeeded", stage(state="done", shards_done=4, shards_total=4), artifacts={"report": "report/" + "b" * 32}, finished_at=1060.0),
        ]  # fmt: skip
        self.recipes = {}
        self.keys = {}
        self.artifacts = []
        self.tables = {}
        self.live = []
        self.events = []
        self.asked = []
        self.uploads = []
        self.bodies = []
        self.down = 0
        """So many requests fail before the gateway answers again."""
        self.problem = None
        self.looks = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """For httpx.MockTransport."""
        if self.down:
            self.down -= 1
            raise httpx.ConnectError("Connection refused", request=request)
        url = urlsplit(str(request.url))
        code, body = self.answer(request.method, unquote(url.path), url.query, request.headers, request.read())
        return httpx.Response(code, content=body if isinstance(body, bytes) else json.dumps(body).encode())

    def answer(self, method, path, query, headers, body):
        """(HTTP status, JSON value or bytes)."""
        self.asked.append((method, path, query))
        if self.problem:
            return self.problem["status"], self.problem
        if path == "/readyz":
            check = {"ok": True, "required": True, "detail": "answers", "seconds": 0.001}
            return 200, {"ready": True, "checks": {"redis": check, "storage": check}}
        if method == "POST":
            return self._post(path, parse_qs(query), headers, body)
        if path == "/v1/runs":
            return 200, page([status("running", id=run_id) for run_id in self.recipes])
        return self._get(path.removeprefix("/v1/runs/").split("/", 2), parse_qs(query))

    def _post(self, path, query, headers, body):
        if path == "/v1/datasets":
            self.uploads.append(body)
            return 201, {"dataset_id": "ds_" + "c" * 32, "rows": 3}
        if path == "/v1/runs":
            self.bodies.append(body)
            recipe = json.loads(body)["recipe"]
            if "dry_run" in query:
                return 200, {"recipe": recipe}
            run_id = self.keys.setdefault(headers.get("Idempotency-Key"), f"2026-11-24-{len(self.keys):06x}")
            self.recipes[run_id] = recipe
            return 201, {"id": run_id}
        if path.endswith("/resume"):
            self.statuses = self.statuses[1:]
        return 202, {"wanted": "running"}

    def _get(self, parts, query):
        run_id, what = parts[0], parts[1] if len(parts) > 1 else ""
        if run_id not in self.recipes:
            return 404, {
                "status": 404,
                "title": "Not Found",
                "detail": f"There is no run {run_id}.",
                "remedy": "List the runs.",
            }
        if what == "events":
            after = int(query["after"][0])
            return 200, page([event for event in self.events if event["seq"] > after])
        if what == "report":
            return 200, {"table_text": TABLE} if query["format"] == ["json"] else b"<html>report</html>"
        if what == "artifacts" and len(parts) == 2:
            return 200, page([{"bytes": 1, "stage": "x", "table": None, "rows": None} | one for one in self.artifacts])
        if what == "artifacts" and query.get("format") == ["json"]:
            return 200, {"files": next(one["files"] for one in self.artifacts if one["name"] == parts[2])}
        if what == "artifacts":
            found = self.tables.get(parts[2])
            return (404, {"status": 404, "detail": "There is no such file."}) if found is None else (200, found)
        return 200, self._run(run_id)

    def _run(self, run_id):
        current = self.statuses[min(self.looks, len(self.statuses) - 1)]
        self.looks += self.recipes[run_id].get("name") != "slow"  # a slow run never ends
        return current | {"id": run_id, "recipe": self.recipes[run_id], "live": self.live}


def serve(port: int, memory: Path) -> None:
    """Until it is ended."""
    fake = FakeGateway()
    if memory.exists():
        fake.keys = json.loads(memory.read_text())
        fake.recipes = {run_id: {"name": "demo"} for run_id in fake.keys.values()}
        fake.looks = 1

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply(b"")

        def do_POST(self):
            self.reply(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            memory.write_text(json.dumps(fake.keys))

        def reply(self, body):
            url = urlsplit(self.path)
            code, value = fake.answer(self.command, unquote(url.path), url.query, self.headers, body)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(value if isinstance(value, bytes) else json.dumps(value).encode())

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
