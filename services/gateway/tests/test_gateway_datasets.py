"""Uploading data sets."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from overproof.gateway.context import Context
from overproof.gateway.settings import GatewaySettings

GOOD = b'{"problem": "What is 1 + 1?", "answer": "2", "level": 1}\n{"problem": "What is 2 + 2?", "answer": "4", "level": 1}\n'


def send(client: TestClient, content: bytes, filename: str = "rows.jsonl", **fields: str) -> Any:
    return client.post("/v1/datasets", files={"file": (filename, content)}, data=fields)


def parquet(rows: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(rows), buffer)
    return buffer.getvalue()


def leftovers(storage: Path) -> list[str]:
    return [path.name for path in (storage / "uploads").glob("*")] if (storage / "uploads").exists() else []


ROWS = {"problem": ["1+1?", "2+2?"], "answer": ["2", "4"]}
FILES = [("rows.jsonl", GOOD), ("rows.csv", b"problem,answer\n1+1?,2\n2+2?,4\n"), ("rows.parquet", parquet(ROWS))]


@pytest.mark.parametrize(("name", "content"), FILES, ids=[name for name, _ in FILES])
def test_a_good_file_becomes_a_data_set(
    client: TestClient, context: Context, storage: Path, name: str, content: bytes
) -> None:
    response = send(client, content, name, license="CC0-1.0", name="sums")
    assert response.status_code == 201, response.text
    body = response.json()
    assert (body["rows"], body["bytes"], body["license"], body["name"]) == (2, len(content), "CC0-1.0", "sums")
    assert body["columns"][:2] == ["problem", "answer"]
    stored = context.files.read(f"datasets/{body['dataset_id']}/{body['filename']}")
    assert stored == content
    assert client.get(response.headers["location"]).json() == body
    assert leftovers(storage) == []


def test_a_raw_body_is_a_file_too(client: TestClient) -> None:
    response = client.post("/v1/datasets?filename=rows.jsonl&license=MIT", content=GOOD)
    assert (response.status_code, response.json()["license"]) == (201, "MIT")
    again = client.post("/v1/datasets", content=GOOD, headers={"x-filename": "other.jsonl"})
    assert (again.status_code, again.json()) == (200, response.json())
    assert client.post("/v1/datasets", content=GOOD).status_code == 422


def test_an_upload_can_be_used_by_a_run(client: TestClient, recipe: dict[str, Any], models: Any) -> None:
    body = send(client, GOOD).json()
    recipe["data"]["train"] = {"upload": body["dataset_id"]}
    bound = client.post("/v1/runs", json={"recipe": recipe}).json()["bindings"]["data"]
    assert bound == {body["dataset_id"]: body["sha256"]}
    recipe["data"]["train"]["columns"] = {"answer": "final"}
    assert client.post("/v1/runs", json={"recipe": recipe}).status_code == 422


def test_problems_without_answers_are_an_upload_of_their_own_kind_for_majority_labels(
    client: TestClient, recipe: dict[str, Any], models: Any
) -> None:
    questions = b'{"problem": "What is 1 + 1?"}\n'
    assert send(client, questions).status_code == 422
    response = send(client, questions, table="questions")
    assert response.status_code == 201, response.text
    recipe["data"]["train"] = {"upload": response.json()["dataset_id"]}
    refused = client.post("/v1/runs?dry_run=true", json={"recipe": recipe})
    assert (refused.status_code, "no column answer" in refused.text) == (422, True)
    recipe["data"]["on_ungradable"] = "keep"
    recipe["selection"] = [{"labels": "majority"}]
    told = client.post("/v1/runs?dry_run=true", json={"recipe": recipe}).json()["warnings"]
    assert any("majority trains on what the teacher mostly says" in sentence for sentence in told)


def test_other_column_names_are_found_or_mapped(client: TestClient) -> None:
    assert send(client, b'{"question": "1+1?", "final_answer": 2}\n').status_code == 201
    odd = b'{"Q": "1+1?", "A": 2}\n'
    assert send(client, odd).status_code == 422
    assert send(client, odd, columns=json.dumps({"problem": "Q", "answer": "A"})).status_code == 201
    assert send(client, odd, columns="{").status_code == 422
    assert send(client, odd, columns='{"problem": "nope"}').status_code == 422


def test_a_solution_with_a_box_stands_in_for_the_answer(client: TestClient) -> None:
    assert send(client, b'{"problem": "1+1?", "solution": "so \\\\boxed{2}"}\n').status_code == 201
    assert send(client, b'{"problem": "1+1?", "solution": "so 2"}\n').status_code == 422


def test_completions_and_training_rows_are_other_tables(client: TestClient) -> None:
    line = b'{"problem": "1+1?", "solution": "\\\\boxed{2}", "num_tokens": 5}\n'
    assert send(client, line, table="completions").status_code == 201
    assert send(client, b'{"problem": "1+1?", "solution": "2"}\n', table="completions").status_code == 422
    assert send(client, b'{"prompt": "1+1?", "completion": "2"}\n', table="selected").status_code == 201
    assert send(client, GOOD, table="nonsense").status_code == 422


BAD: list[tuple[str, str, bytes, str, str]] = [
    ("no rows", "a.jsonl", b"\n\n", "no rows", ""),
    ("empty", "a.csv", b"", "no rows", ""),
    ("ending", "a.txt", GOOD, "neither JSONL", ""),
    ("no ending", "data", GOOD, "neither JSONL", ""),
    ("not JSON", "a.jsonl", GOOD + b"{oops\n", "Line 3 is not JSON", ""),
    ("not an object", "a.jsonl", b"[1]\n", "Line 1 is not a JSON object", ""),
    ("not UTF-8", "a.jsonl", b'{"problem": "\xff", "answer": "1"}\n', "Line 1", ""),
    ("missing column", "a.csv", b"problem,solution_text\n1,2\n", "no column answer", "answer"),
    ("missing answer", "a.jsonl", GOOD + b'{"problem": "x"}\n', "It is missing", "line 3, answer"),
    ("empty problem", "a.jsonl", GOOD + b'{"problem": " ", "answer": "1"}\n', "missing or not text", "line 3, problem"),
    (
        "two answers",
        "a.jsonl",
        GOOD + b'{"problem": "what is  1 + 1?", "answer": "3"}\n',
        "another answer at line 1",
        "line 3, answer",
    ),
    ("too many cells", "a.csv", b"problem,answer\n1,2,3\n", "more cells than the header", ""),
    ("not parquet", "a.parquet", b"PAR1 nonsense PAR1", "cannot be read", ""),
    ("truncated parquet", "a.parquet", parquet(ROWS)[:-30], "cannot be read", ""),
]


@pytest.mark.parametrize(("case", "name", "content", "words", "field"), BAD, ids=[case[0] for case in BAD])
def test_a_bad_file_is_refused_by_line_and_field(
    client: TestClient, storage: Path, case: str, name: str, content: bytes, words: str, field: str
) -> None:
    response = send(client, content, name)
    assert response.status_code == 422, response.text
    body = response.json()
    assert words in body["detail"]
    assert body["remedy"]
    assert [error["field"] for error in body.get("errors", [])] == ([field] if field else [])
    assert client.get("/v1/datasets").json()["data"] == []
    assert leftovers(storage) == []


def test_at_most_fifty_errors_are_listed_and_all_are_counted(client: TestClient) -> None:
    body = send(client, GOOD + b'{"problem": "x"}\n' * 120).json()
    assert len(body["errors"]) == 50
    assert "the first of 120 errors" in body["detail"]


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(settings: GatewaySettings, make_client: Callable[[GatewaySettings], TestClient]) -> TestClient:
    limits = {"max_upload_bytes": 8192, "max_dataset_rows": 50, "max_dataset_chars": 100_000}
    return make_client(settings.model_copy(update=limits))


def chunked(content: bytes) -> Any:
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


def test_an_upload_is_cut_off_at_its_limit(small: TestClient, storage: Path) -> None:
    large = b'{"problem": "' + b"x" * 100_000 + b'", "answer": "1"}\n'
    for response in (
        send(small, large),
        small.post("/v1/datasets?filename=a.jsonl", content=large),
        small.post("/v1/datasets?filename=a.jsonl", content=chunked(large)),
        small.post(
            "/v1/datasets",
            content=chunked(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n' + large),
            headers={"content-type": "multipart/form-data; boundary=b"},
        ),
    ):
        assert response.status_code == 413
        assert response.json()["type"] == "urn:overproof:error:too-large"
    assert leftovers(storage) == []


def test_too_many_rows_are_refused(small: TestClient) -> None:
    response = send(small, b'{"problem":"x","answer":"1"}\n' * 60)
    assert (response.status_code, "more than 50 rows" in response.text) == (413, True)


def test_a_parquet_bomb_is_refused(small: TestClient, storage: Path) -> None:
    bomb = parquet({"problem": ["x" * 100_000] * 40, "answer": ["1"] * 40})
    assert len(bomb) < 8192
    response = send(small, bomb, "a.parquet")
    assert (response.status_code, "unfolds" in response.text) == (413, True)
    assert leftovers(storage) == []


def test_a_bomb_that_fills_memory_takes_only_the_reader_with_it(
    settings: GatewaySettings, make_client: Callable[[GatewaySettings], TestClient], storage: Path
) -> None:
    client = make_client(settings.model_copy(update={"check_memory_bytes": 800 * 2**20}))
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 256, pa.int32()), pa.array(["x" * 8_000_000]))
    bomb = parquet({"problem": long, "answer": ["1"] * 256})
    assert len(bomb) < 2**20
    response = send(client, bomb, "a.parquet")
    assert response.status_code in (413, 422), response.text
    assert client.get("/healthz").status_code == 200
    assert leftovers(storage) == []


FORMS: list[tuple[str, bytes, str]] = [
    ("no boundary", b"", "multipart/form-data"),
    (
        "cut",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\nabc',
        "multipart/form-data; boundary=b",
    ),
    (
        "no file",
        b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nabc\r\n--b--\r\n',
        "multipart/form-data; boundary=b",
    ),
    ("broken", b"nonsense", "multipart/form-data; boundary=b"),
    (
        "other name",
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nabc\r\n--b--\r\n',
        "multipart/form-data; boundary=b",
    ),
]


@pytest.mark.parametrize(("case", "content", "kind"), FORMS, ids=[case[0] for case in FORMS])
def test_a_broken_form_is_refused(client: TestClient, storage: Path, case: str, content: bytes, kind: str) -> None:
    response = client.post("/v1/datasets", content=content, headers={"content-type": kind})
    assert response.status_code == 422, response.text
    assert leftovers(storage) == []


@pytest.mark.parametrize("filename", ["../../../etc/passwd.jsonl", "..\\..\\x.jsonl", "a\x01b.jsonl"])
def test_a_file_name_is_only_a_name(client: TestClient, storage: Path, filename: str) -> None:
    body = client.post("/v1/datasets", params={"filename": filename}, content=GOOD).json()
    assert "/" not in body["name"]
    assert "\\" not in body["name"]
    assert {path.name for path in (storage / "datasets").rglob("*") if path.is_file()} == {"data.jsonl", "dataset.json"}


# --- looking ----------------------------------------------------------------------------------------------------------


def test_data_sets_come_newest_first_in_pages(client: TestClient) -> None:
    ids = [send(client, GOOD + b"\n" * number).json()["dataset_id"] for number in range(3)]
    first = client.get("/v1/datasets?limit=2").json()
    assert ([one["dataset_id"] for one in first["data"]], first["has_more"]) == ([ids[2], ids[1]], True)
    rest = client.get(f"/v1/datasets?limit=2&after={ids[1]}").json()
    assert ([one["dataset_id"] for one in rest["data"]], rest["has_more"]) == ([ids[0]], False)


@pytest.mark.parametrize("name", ["ds_" + "0" * 32, "..", "%2e%2e", "ds_x"])
def test_an_unknown_data_set_is_not_found(client: TestClient, name: str) -> None:
    assert client.get(f"/v1/datasets/{name}").status_code == 404
