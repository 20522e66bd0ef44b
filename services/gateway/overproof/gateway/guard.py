"""Who may ask: an API key, or, where none is set up, this machine only."""

from __future__ import annotations

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from overproof.gateway.context import Ctx
from overproof.gateway.keys import Forbidden, Unauthorized

LOCAL = "local"
"""The principal of a gateway without keys."""

bearer = HTTPBearer(auto_error=False, bearerFormat="ok_<8 hex id>_<secret>", description="An API key.")


def principal(
    request: Request, context: Ctx, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> str:
    """Id of the key. Raises Unauthorized, or Forbidden for a page from elsewhere that speaks through a local browser."""
    if not context.keys.required:
        _refuse_foreign_pages(request)
        return LOCAL
    found = context.keys.principal(credentials.credentials) if credentials else None
    if found is None:
        raise Unauthorized("The API key is missing or unknown.", "Send Authorization: Bearer ok_..., or ask for a key.")
    return found


Principal = Annotated[str, Depends(principal)]


def _refuse_foreign_pages(request: Request) -> None:
    """Without keys, only the loopback address protects: neither a foreign Host (DNS rebinding) nor a foreign Origin may pass."""
    origin = request.headers.get("origin")
    if not _is_local(request.headers.get("host", "")) or (origin and not _is_local(urlsplit(origin).netloc)):
        raise Forbidden(
            "This gateway has no API keys and answers only requests from this machine.",
            "Ask for it as http://127.0.0.1, or set up API keys.",
        )


def _is_local(netloc: str) -> bool:
    host = urlsplit(f"//{netloc}").hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
