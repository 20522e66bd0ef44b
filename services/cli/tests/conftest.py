"""A session whose gateway is the fake one."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path

import httpx
import pytest

from overproof.cli.client import Gateway
from overproof.cli.main import invoke, parser
from overproof.cli.output import Output
from overproof.cli.session import Session

HERE = Path(__file__).parent
RUN_ID = "2026-11-24-000000"


def _load_fake():
    spec = importlib.util.spec_from_file_location("overproof_fake_gateway", HERE / "fake_gateway.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Cli:
    """Runs command lines against the fake gateway; remembers what was said."""

    def __init__(self, module):
        self.module = module
        self.fake = module.FakeGateway()
        self.pauses = []
        self.out = self.err = ""

    def __call__(self, *argv):
        args = parser().parse_args([str(word) for word in argv])
        output = Output(io.StringIO(), io.StringIO(), as_json=getattr(args, "json", False))
        session = Session(output, pause=self.pauses.append, environ={})
        session.gateway = Gateway("http://gateway", "ok_key", transport=httpx.MockTransport(self.fake))
        status = invoke(session, args)
        self.out, self.err = output.out.getvalue(), output.err.getvalue()
        return status

    @property
    def recipe(self):
        """The last one that was submitted."""
        return list(self.fake.recipes.values())[-1]

    def json(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def know(self, run_id=RUN_ID, recipe=None):
        """A run that the gateway knows already."""
        self.fake.keys["known"] = run_id
        self.fake.recipes[run_id] = recipe or {"name": "demo"}
        return run_id


@pytest.fixture
def fake_gateway():
    return _load_fake()


@pytest.fixture
def cli(fake_gateway):
    return Cli(fake_gateway)
