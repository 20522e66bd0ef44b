"""The few requests that a pod may make of its cluster's API server, with the token of its service account.

Three verbs on one resource: the standard library is enough; the kubernetes client would bring 26 other distributions into the image.
"""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from overproof.shared.errors import EngineUnavailable, UserError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Kubernetes mounts `token`, `namespace` and `ca.crt` here."""
SECONDS_PER_REQUEST = 20.0
MAX_ANSWER_BYTES = 4_000_000


class NotInACluster(UserError):
    """There is no API server to speak to."""


class Refused(Exception):
    """The API server understood and said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Cluster:
    """An API server as one service account sees it."""

    def __init__(self, url: str, account: Path) -> None:
        self.url = url.rstrip("/")
        self.namespace = (account / "namespace").read_text().strip()
        self._token = account / "token"
        self._trust = ssl.create_default_context(cafile=str(account / "ca.crt"))

    @classmethod
    def of_this_pod(cls, environ: Mapping[str, str] = os.environ, account: Path = ACCOUNT) -> Cluster:
        """Raises NotInACluster where Kubernetes has put no address or no token."""
        host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not (account / "token").is_file():
            raise NotInACluster(
                "OVERPROOF_TRAINING_RUNNER is trainjob, but this process has no account of a cluster.",
                "Run it in a pod with automountServiceAccountToken: true (k8s/components/trainer), or set it to process_group.",
            )
        return cls(f"https://{f'[{host}]' if ':' in host else host}:{port}", account)

    def ask(self, method: Literal["GET", "POST", "DELETE"], path: str, body: Any = None) -> dict[str, Any]:
        """The answer's object. Raises Refused, and EngineUnavailable when there is no answer or one that may pass (429, 5xx)."""
        request = urllib.request.Request(  # noqa: S310  (always https)
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._token.read_text().strip()}",  # read anew: the kubelet renews it
                "Accept": "application/json",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS_PER_REQUEST, context=self._trust) as answer:  # noqa: S310
                found: dict[str, Any] = json.loads(answer.read(MAX_ANSWER_BYTES))
                return found
        except urllib.error.HTTPError as error:
            message = _message(error)
            if error.code == 429 or error.code >= 500:
                raise EngineUnavailable(f"The cluster's API server is busy: {message}", "It is asked again.") from None
            raise Refused(error.code, message) from None
        except (OSError, ValueError) as error:
            raise EngineUnavailable(
                f"The cluster's API server at {self.url} does not answer: {error}",
                "Let training's pods reach it (NetworkPolicy `training-to-api-server` of k8s/components/trainer).",
            ) from None


def _message(error: urllib.error.HTTPError) -> str:
    """Of a Status object, or what there is instead."""
    try:
        status = json.loads(error.read(MAX_ANSWER_BYTES))
        return str(status["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {error.code}"
