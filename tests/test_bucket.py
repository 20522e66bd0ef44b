"""The demo, shortened, with every artifact in a bucket: real processes, a real S3 server, and kill -9 in between."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest
from bucket import serving
from installation import installed
from test_end_to_end import recipe

from overproof.shared.artifacts import Artifacts
from overproof.shared.files import Files


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_loop_ends_well_in_a_bucket_though_workers_are_killed(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path_factory.mktemp("weed")) as url:
        monkeypatch.setenv("OVERPROOF_STORAGE", url)
        with installed(tmp_path) as installation:
            run_id = installation.submit(recipe())
            installation.wait_for(run_id, "sample", 2)
            installation.kill("inference")
            installation.wait_for(run_id, "select", 1)
            installation.kill("pipeline")
            run = installation.wait(run_id)
            assert run["state"] == "succeeded", run["error"]
            assert len(installation.gateway.report(run_id)["models"]) == 3
            artifacts, student = Artifacts(Files(url)), run["artifacts"]["student/round-1/shortest"]
            parts = [part for receipt in (artifacts.receipt(student, 0),) for part in receipt.parts]
            assert any(part.name.endswith(".safetensors") for part in parts)
            for part in parts:
                content = artifacts.files.read(f"{artifacts.folder(student)}/{part.name}")
                assert hashlib.sha256(content).hexdigest() == part.sha256
            answer = httpx.get(f"{installation.gateway.url}/metrics").text
            assert "overproof_eval_accuracy_ratio{" in answer
        assert not (tmp_path / "storage").exists() or not any((tmp_path / "storage").iterdir())
