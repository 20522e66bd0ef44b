"""Fetching what runs made."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from overproof.gateway.context import Context
from overproof.shared.artifacts import split_ref
from overproof.shared.runs import RunState

COMPLETIONS_NAME = "completions/train/round-1/pass-1"


def path_of(run: Any, name: str) -> str:
    return f"/v1/runs/{run.run_id}/artifacts/{name}"


def lines(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.split("\n") if line]


def test_artifacts_are_listed_by_name(client: TestClient, finished_run: Any) -> None:
    body = client.get(f"/v1/runs/{finished_run.run_id}/artifacts").json()
    assert [one["name"] for one in body["data"]] == sorted(finished_run.refs)
    problems = next(one for one in body["data"] if one["name"] == "problems/train")
    assert (problems["complete"], problems["table"], problems["rows"], problems["parts"]) == (True, "problems", 6, 2)
    student = next(one for one in body["data"] if one["name"].startswith("student"))
    assert (student["table"], student["rows"]) == (None, None)
    assert student["bytes"] > 0


def test_an_artifact_is_described_with_its_files(client: TestClient, finished_run: Any) -> None:
    body = client.get(path_of(finished_run, "student/round-1/shortest")).json()
    assert "checkpoint/model.safetensors" in [file["name"] for file in body["files"]]
    assert body["inputs"] == [finished_run.refs["selected/round-1/shortest"]]
    same = client.get(path_of(finished_run, finished_run.refs["student/round-1/shortest"])).json()
    assert same["files"] == body["files"]


@pytest.mark.parametrize("query", ["", "?format=parquet", "?format=parquet&columns=problem,answer"])
@pytest.mark.parametrize("name", ["problems/train", "selected/round-1/shortest"])
def test_tables_come_as_one_parquet_file(client: TestClient, finished_run: Any, name: str, query: str) -> None:
    query = query.replace("problem,answer", "prompt,level") if name.startswith("selected") else query
    response = client.get(path_of(finished_run, name) + query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/vnd.apache.parquet"
    assert response.headers["content-disposition"].endswith('.parquet"')
    table = pq.read_table(io.BytesIO(response.content), page_checksum_verification=True)
    assert table.num_rows == 6
    if "columns" in query:
        assert len(table.column_names) == 2


def test_tables_come_as_jsonl_and_csv(client: TestClient, finished_run: Any) -> None:
    rows = lines(client.get(path_of(finished_run, COMPLETIONS_NAME) + "?format=jsonl"))
    assert len(rows) == 6
    text = client.get(path_of(finished_run, COMPLETIONS_NAME) + "?format=csv&columns=text,n_tokens").text
    table = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["text"] for row in table] == [row["text"] for row in rows]
    assert table[0].keys() == {"text", "n_tokens"}


def test_an_unknown_column_is_named(client: TestClient, finished_run: Any) -> None:
    response = client.get(path_of(finished_run, "problems/train") + "?columns=problem,sneaky")
    assert response.status_code == 422
    assert "sneaky" in response.json()["detail"]


@pytest.mark.parametrize(
    ("name", "query", "status"),
    [
        ("nowhere", "", 404), ("problems", "", 404), ("../../requests", "", 404), ("prepare/" + "0" * 32, "", 404),
        ("student/round-1/shortest", "?format=csv", 404), ("problems/train", "?format=xml", 422),
        ("student/round-1/shortest", "?layout=original", 404), ("problems/train", "?layout=solutions", 422),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused(
    client: TestClient, finished_run: Any, name: str, query: str, status: int
) -> None:
    response = client.get(path_of(finished_run, name) + query)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


def test_an_unfinished_table_is_a_conflict(
    client: TestClient, context: Context, add_run: Callable[..., Any], finished_run: Any
) -> None:
    spec = context.artifacts().spec(finished_run.refs["problems/train"]).model_copy(update={"rows_per_part": 77})
    context.artifacts().declare(spec)
    add_run("2026-11-24-bbbbbb", state=RunState.RUNNING, artifacts={"problems/train": spec.ref})
    path = "/v1/runs/2026-11-24-bbbbbb/artifacts"
    assert client.get(path).json()["data"][0]["complete"] is False
    assert client.get(f"{path}/problems/train?format=csv").status_code == 409
    assert client.get(f"{path}/problems/train").json()["complete"] is False
    assert client.get(f"{path}/problems/train/files/x").status_code == 409


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_come_byte_by_byte_as_attachments(client: TestClient, finished_run: Any) -> None:
    path = path_of(finished_run, "student/round-1/shortest/files/")
    response = client.get(path + "checkpoint/model.safetensors")
    assert (response.content, response.headers["content-type"]) == (b"student", "application/octet-stream")
    assert response.headers["content-disposition"] == 'attachment; filename="model.safetensors"'
    assert client.get(path + "checkpoint/model.safetensors", headers={"range": "bytes=2-4"}).content == b"ude"
    page = client.get(path + "log.html")
    assert page.headers["content-type"] == "application/octet-stream"
    assert page.headers["content-disposition"].startswith("attachment")
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "file",
    ["spec.json", "MANIFEST.json", "../../../runs/2026-11-24-aaaaaa/recipe.json", "%2e%2e/spec.json", "checkpoint"],
)
def test_only_what_the_manifest_lists_is_a_file(client: TestClient, finished_run: Any, file: str) -> None:
    response = client.get(path_of(finished_run, "student/round-1/shortest/files/") + file)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["report/files/report.html", "problems/train?format=jsonl"])
def test_a_damaged_file_is_never_sent(client: TestClient, context: Context, finished_run: Any, name: str) -> None:
    ref = finished_run.refs[name.partition("/files")[0].partition("?")[0]]
    folder = context.files.local(f"artifacts/{'/'.join(split_ref(ref))}")
    damaged = next(path for path in folder.iterdir() if path.name.startswith(("part-00000", "report.html")))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    response = client.get(path_of(finished_run, name))
    assert response.status_code == 500
    assert response.json()["type"] == "urn:overproof:error:corrupt-shard"
    assert client.get(path_of(finished_run, name)).status_code in (404, 409)


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_is_a_page_that_can_load_and_call_nothing(client: TestClient, finished_run: Any) -> None:
    response = client.get(f"/v1/runs/{finished_run.run_id}/report")
    assert response.text.startswith("<!doctype html>")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert "allow-same-origin" not in policy
    assert client.get(f"/v1/runs/{finished_run.run_id}/report?format=json").json() == {"ok": True}
    assert client.get(f"/v1/runs/{finished_run.run_id}/report?format=md").text == "# r"


def test_a_run_without_a_report_says_so(client: TestClient, add_run: Callable[..., Any]) -> None:
    add_run("2026-11-24-bbbbbb", state=RunState.RUNNING)
    assert client.get("/v1/runs/2026-11-24-bbbbbb/report").status_code == 404


# --- the original workflow's lines --------------------------------------------------------------------------------------


def test_prompts_and_metadata_belong_together_line_by_line(client: TestClient, finished_run: Any) -> None:
    prompts = lines(client.get(path_of(finished_run, "problems/train") + "?layout=prompts"))
    metadata = lines(client.get(path_of(finished_run, "problems/train") + "?layout=metadata"))
    assert len(prompts) == len(metadata) == 6
    assert prompts[0]["problem"] == "What is 0 + 0?"
    assert prompts[0]["prompt"].startswith("What is 0 + 0?\n\nPlease reason")
    assert metadata[2] == {"level": 3, "type": "Algebra"}
    assert lines(client.get(path_of(finished_run, "problems/train") + "?layout=original")) == prompts


def test_solutions_carry_their_problem_and_tokens(client: TestClient, finished_run: Any) -> None:
    rows = lines(client.get(path_of(finished_run, COMPLETIONS_NAME) + "?layout=original"))
    assert len(rows) == 6
    assert rows[4]["problem"] == "What is 1 + 1?"
    assert (rows[4]["answer"], rows[4]["num_tokens"], rows[4]["level"]) == ("2", 11, 2)
    assert "\\boxed{2}" in rows[4]["solution"]


def test_correct_completions_come_as_parquet(client: TestClient, finished_run: Any) -> None:
    response = client.get(path_of(finished_run, "selected/round-1/shortest") + "?layout=original")
    table = pq.read_table(io.BytesIO(response.content))
    assert table.column_names == ["problem", "solution", "num_tokens", "level", "type"]
    assert table.to_pylist()[5] == {
        "problem": "What is 1 + 2?", "solution": "\\boxed{3}", "num_tokens": 7, "level": 3, "type": "Algebra",
    }  # fmt: skip


def test_an_evaluation_has_its_overall_figures(client: TestClient, finished_run: Any) -> None:
    path = path_of(finished_run, "comparison") + "?layout=original"
    one = client.get(path + "&model=base").json()
    assert (one["overall"]["accuracy"], one["overall"]["correct"], one["overall"]["total"]) == (0.4, 8, 20)
    assert one["by_level"]["3"]["total"] == 20
    assert set(client.get(path).json()) == {"teacher", "base", "round 1"}
    assert client.get(path + "&model=nobody").status_code == 404
