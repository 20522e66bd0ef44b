"""The gateway over HTTP. Every failure becomes a CliError with the gateway's own sentence and remedy."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import httpx

from overproof.cli.errors import CliError, Refused, Unreachable

TIMEOUT = httpx.Timeout(30, connect=5)
UPLOAD_TIMEOUT = httpx.Timeout(600, connect=5)  # the gateway reads and checks every line before it answers
PAGE = 100
ERRNO = re.compile(r"^\[Errno -?\d+\] ")


class Gateway:
    """The routes of `/v1`. Methods return the gateway's JSON as it is; raise Unreachable or Refused."""

    def __init__(self, url: str, api_key: str | None = None, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT, transport=transport)

    # --- runs ----------------------------------------------------------------------------------------------------

    def submit(self, recipe: dict[str, Any], *, key: str, metadata: dict[str, str] | None = None) -> dict[str, Any]:
        """Ask for a run; the same `key` with the same recipe gives the same run."""
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        return self._json("POST", "/v1/runs", content=_canonical(recipe, metadata or {}), headers=headers)

    def validate(self, recipe: dict[str, Any]) -> dict[str, Any]:
        """Check a recipe without running it."""
        return self._json("POST", "/v1/runs", params={"dry_run": "true"}, json={"recipe": recipe, "metadata": {}})

    def runs(self, limit: int = PAGE) -> list[dict[str, Any]]:
        """The newest runs first, at most `limit`, over as many pages as it takes."""
        found: list[dict[str, Any]] = []
        more = True
        while more and len(found) < limit:
            params: dict[str, Any] = {"limit": min(PAGE, limit - len(found))}
            page = self._json("GET", "/v1/runs", params=params | ({"after": found[-1]["id"]} if found else {}))
            found += page["data"]
            more = bool(page["has_more"] and page["data"])
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        """What was asked, what has become of it, and the live progress of its stages."""
        return self._json("GET", f"/v1/runs/{run_id}")

    def events(self, run_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Events numbered above `after`."""
        page = self._json("GET", f"/v1/runs/{run_id}/events", params={"after": after, "limit": PAGE})
        return list(page["data"])

    def want(self, run_id: str, verb: str, budget_usd: float | None = None) -> dict[str, Any]:
        """`verb`: cancel, pause or resume, the last perhaps with another budget."""
        query = {} if budget_usd is None else {"budget_usd": budget_usd}
        return self._json("POST", f"/v1/runs/{run_id}/{verb}", params=query)

    # --- what runs made --------------------------------------------------------------------------------------------

    def artifacts(self, run_id: str) -> list[dict[str, Any]]:
        """The run's artifacts, complete or not."""
        return list(self._json("GET", f"/v1/runs/{run_id}/artifacts")["data"])

    def files(self, run_id: str, name: str) -> list[str]:
        """Names of the files of an artifact that is no table."""
        detail = self._json("GET", artifact_path(run_id, name), params={"format": "json"})
        return [str(file["name"]) for file in detail["files"]]

    def report(self, run_id: str) -> dict[str, Any]:
        """The report's figures."""
        return self._json("GET", f"/v1/runs/{run_id}/report", params={"format": "json"})

    def report_url(self, run_id: str) -> str:
        """Where the page can be read."""
        return f"{self.url}/v1/runs/{run_id}/report"

    def download(self, path: str, target: Path, params: dict[str, str] | None = None) -> int:
        """Bytes written to `target`, streamed beside it and renamed: no half file is ever left under its name."""
        beside = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with self._open("GET", path, params=params or {}) as response, beside.open("wb") as file:
                for chunk in response.iter_bytes(1 << 16):
                    file.write(chunk)
            beside.replace(target)
        except OSError as error:
            raise CliError(f"{target} cannot be written: {error.strerror}.", "Name another file.") from error
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()
        return target.stat().st_size

    # --- what goes in ----------------------------------------------------------------------------------------------

    def upload(
        self, path: Path, *, license: str | None = None, table: str = "problems", columns: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Send a data set; returns its record with `dataset_id`. `table`: what its rows are; `columns`: ours → theirs."""
        fields = {"table": table, "license": license, "columns": json.dumps(columns) if columns else None}
        try:
            with path.open("rb") as file:
                return self._json(
                    "POST",
                    "/v1/datasets",
                    files={"file": (path.name, file)},
                    data={name: value for name, value in fields.items() if value},
                    timeout=UPLOAD_TIMEOUT,
                )
        except OSError as error:
            raise CliError(f"{path} cannot be read: {error.strerror}.", "Name a file that you can read.") from error

    def readiness(self) -> tuple[int, dict[str, Any]]:
        """Status and body of `/readyz`: 503 is an answer too."""
        with self._reaching():
            response = self._http.get("/readyz")
        return response.status_code, _body(response)

    # --- the wire --------------------------------------------------------------------------------------------------

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with self._reaching():
            response = self._http.request(method, path, **options)
        if response.is_error:
            refuse(response)
        return _body(response)

    @contextlib.contextmanager
    def _open(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        with self._reaching(), self._http.stream(method, path, **options) as response:
            if response.is_error:
                response.read()
                refuse(response)
            yield response

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.InvalidURL as error:
            raise CliError(f"{self.url} is not a URL: {error}.", "Set OVERPROOF_URL to http://host:port.") from error
        except httpx.TransportError as error:
            raise Unreachable(
                f"The gateway at {self.url} does not answer ({_reason(error)}).",
                "Start it with `overproof local up`, or set OVERPROOF_URL to where it runs.",
            ) from error


def _reason(error: httpx.TransportError) -> str:
    return ERRNO.sub("", str(error)) or type(error).__name__


def artifact_path(run_id: str, name: str) -> str:
    """Path of an artifact's route."""
    return f"/v1/runs/{run_id}/artifacts/{quote(name)}"


def _canonical(recipe: dict[str, Any], metadata: dict[str, str]) -> bytes:
    """The same bytes for the same recipe, in whatever order its fields stand: an Idempotency-Key wants that."""
    body = {"recipe": recipe, "metadata": metadata}
    return json.dumps(body, sort_keys=True, ensure_ascii=False, default=str).encode()


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        value = response.json()
    except ValueError:
        value = {}
    return value if isinstance(value, dict) else {}


def refuse(response: httpx.Response) -> NoReturn:
    """Turn an RFC 9457 problem body (or any other error answer) into a sentence."""
    body = _body(response)
    message = str(body.get("detail") or body.get("title") or f"The gateway answered {response.status_code}.")
    remedy = str(body.get("remedy") or "")
    if response.status_code in (502, 503, 504):
        raise Unreachable(message, remedy)
    if response.status_code in (401, 403):
        remedy = remedy or "Set OVERPROOF_API_KEY."
    raise Refused(response.status_code, message, remedy, tuple(_field(error) for error in body.get("errors") or ()))


def _field(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    return f"{error.get('field') or '?'}: {error.get('message', '')} {error.get('remedy') or ''}".rstrip()
