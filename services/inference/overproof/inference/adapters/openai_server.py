"""The server that speaks OpenAI's protocol: how it is reached, what it serves, and what its refusals mean.

The `openai` client is used rather than plain HTTP: it retries with growing, jittered pauses, waits as long as `Retry-After`
says, keeps connections, and its types name every field. Its key never leaves this module.
"""

from __future__ import annotations

import logging
from typing import NamedTuple
from urllib.parse import urlsplit

import openai

from overproof.inference.adapters.chat import MAX_REASON_CHARS, PromptError
from overproof.inference.settings import InferenceSettings
from overproof.shared.errors import EngineUnavailable, ModelError

NO_KEY = "none"
"""Servers of one's own often ask for no key, but the client wants one."""
LOOK_SECONDS = 30.0
LOOK_RETRIES = 2
"""A look before the run needs no patience: nothing is lost when it fails."""
MODELS_NAMED = 5
UNPAID = {"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"}
"""Codes of a 429 that waiting does not mend."""
AWAY = {429, 502, 503, 504}
"""Answers of a server that is busy or starting; other 5xx may be about one prompt."""


class Served(NamedTuple):
    """A model as its server lists it."""

    name: str
    context: int | None
    """Tokens of prompt + completion, where the server says so (vLLM does)."""


class ServerFailed(PromptError):
    """The server failed on this prompt, and may fail on the next one."""


class Server:
    """Where it is and how patient its clients are. Raises ModelError when no address is set."""

    def __init__(self, settings: InferenceSettings) -> None:
        for name in ("httpx2", "openai"):  # they tell every request and every second try
            logging.getLogger(name).setLevel(logging.WARNING)
        url = urlsplit(settings.openai_base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ModelError(
                "engine.kind openai needs the address of a server.",
                "Set OVERPROOF_OPENAI_BASE_URL on the inference workers, e.g. http://127.0.0.1:8001/v1.",
            )
        self.address = url.hostname + (f":{url.port}" if url.port else "")
        """For people: a URL may hold a password."""
        self._settings = settings

    def client(self) -> openai.AsyncOpenAI:
        """For completions; lives on one event loop."""
        settings = self._settings
        timeout, retries = settings.openai_timeout_seconds, settings.openai_retries
        return openai.AsyncOpenAI(
            api_key=self._key(), base_url=settings.openai_base_url, timeout=timeout, max_retries=retries
        )

    def look(self, model: str) -> Served | None:
        """The model in the server's list; None when it has no list.

        Raises ModelError when it is not in there, the key is refused, or the server does not answer.
        """
        settings = self._settings
        client = openai.OpenAI(
            api_key=self._key(), base_url=settings.openai_base_url, timeout=LOOK_SECONDS, max_retries=LOOK_RETRIES
        )
        try:
            with client:
                listed = {one.id: one for one in client.models.list()}
        except (openai.NotFoundError, openai.APIResponseValidationError):
            return None
        except openai.APIError as error:
            raise self._final(self.failure(error, model)) from None
        if model not in listed:
            raise self._not_served(model, sorted(listed))
        context = getattr(listed[model], "max_model_len", None)
        return Served(model, context if isinstance(context, int) else None)

    def failure(self, error: openai.APIError, model: str) -> Exception:
        """What is to be raised in place of the client's error.

        PromptError: about this prompt alone. ModelError: no prompt would be answered. EngineUnavailable: later, perhaps.
        """
        status = getattr(error, "status_code", None)
        reason = self._reason(error)
        if status in (401, 403):
            return ModelError(
                f"The server at {self.address} refuses the API key ({status}).",
                "Put a valid one into OVERPROOF_OPENAI_API_KEY, or into the file that OVERPROOF_OPENAI_API_KEY_FILE names; "
                "restart the inference workers and resume the run.",
            )
        if status == 402 or (status == 429 and error.code in UNPAID):
            return ModelError(
                f"The account at {self.address} has no credit left: {reason}.", "Pay, then resume the run."
            )
        if status == 404:
            return ModelError(
                f"The server at {self.address} does not know {model} or the address (404): {reason}.",
                "Mend the model's name, or OVERPROOF_OPENAI_BASE_URL (most end in /v1).",
            )
        if status is None and not isinstance(error, openai.APITimeoutError):
            return self._away(f"does not answer: {reason}.")
        if status in AWAY:
            return self._away(f"answers {status} again and again: {reason}.")
        if status is None:
            return ServerFailed(f"The server did not answer within {self._settings.openai_timeout_seconds:g} seconds.")
        if status >= 500:
            return ServerFailed(f"The server failed on the prompt ({status}): {reason}.")
        return PromptError(f"The server refused the prompt ({status}): {reason}.")

    def _away(self, what: str) -> EngineUnavailable:
        return EngineUnavailable(
            f"The server at {self.address} {what}", "Start it, or mend OVERPROOF_OPENAI_BASE_URL, then resume the run."
        )

    def _final(self, failure: Exception) -> ModelError:
        """Before anything is sent, an error that may pass is told at once: the run can be resumed."""
        if isinstance(failure, ModelError):
            return failure
        if isinstance(failure, EngineUnavailable):
            return ModelError(failure.message, failure.remedy)
        return ModelError(
            f"The server at {self.address} does not list its models. {failure}", "Look at the server's log."
        )

    def _not_served(self, model: str, names: list[str]) -> ModelError:
        more = f" and {len(names) - MODELS_NAMED} more" if len(names) > MODELS_NAMED else ""
        return ModelError(
            f"The server at {self.address} does not serve {model}; it has {', '.join(names[:MODELS_NAMED]) or 'none'}{more}.",
            "Mend the model's name in the recipe, or start the server with it.",
        )

    def _key(self) -> str:
        return self._settings.openai_api_key.get_secret_value() or NO_KEY

    def _reason(self, error: openai.APIError) -> str:
        """What the server or the connection says, in one line and without the key."""
        body = error.body if isinstance(error.body, dict) else {}
        said = body.get("message") or (error.__cause__ if error.body is None else None) or error.message
        text = " ".join(str(said).split()).rstrip(".") or type(error).__name__
        return text.replace(self._key(), "…")[:MAX_REASON_CHARS] if self._key() != NO_KEY else text[:MAX_REASON_CHARS]
