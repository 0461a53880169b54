# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What went wrong with a request to a server, and whether it is worth sending again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

LONGEST_REASON = 300
Kind = Literal["later", "busy", "unreachable", "refused", "forbidden", "closed"]


@dataclass(frozen=True)
class Fault:
    """One failure.

    `kind` is "later" (the server is slow or broken: send again), "busy" (429) and "unreachable" (nobody listens: send
    again, but it concerns every request), "refused" (this request is at fault), "forbidden" (403 or 404: this request,
    or all of them) or "closed" (no request can succeed: the key, the account, offline mode). `wait` is the server's
    Retry-After.
    """

    kind: Kind
    reason: str
    wait: float | None = None


def fault_of(error: Exception, *, timeout: float) -> Fault:
    """The fault behind an exception of the HTTP client.

    >>> fault_of(TimeoutError(), timeout=2.0)
    Fault(kind='later', reason='no answer within 2 s', wait=None)
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return Fault("closed", "HF_HUB_OFFLINE is set, which blocks every server, one on this machine too; unset it")
    if isinstance(error, TimeoutError | InferenceTimeoutError):
        return Fault("later", f"no answer within {timeout:g} s")
    if isinstance(error, HfHubHTTPError):
        return _of_status(error)
    if isinstance(error, httpx2.ConnectError):
        return Fault("unreachable", f"no connection: {_short(str(error))}")
    if isinstance(error, httpx2.TransportError):
        return Fault("later", f"the connection broke off: {_short(str(error) or type(error).__name__)}")
    if isinstance(error, UnicodeEncodeError):
        return Fault("refused", "the prompt is no valid Unicode (half a surrogate pair)")
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return Fault("later", f"the reply is not JSON: {_short(str(error))}")
    return Fault("later", f"the reply cannot be read: {type(error).__name__}: {_short(str(error))}")


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds that a server asks to wait: its Retry-After, given in seconds or as an HTTP date. None without one.

    >>> retry_after({"retry-after": "7"})
    7.0
    >>> retry_after({"retry-after": "Sat, 21 Nov 2026 08:00:30 GMT"}, now=datetime(2026, 11, 21, 8, tzinfo=UTC))
    30.0
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if seconds < float("inf") else None


def _of_status(error: Any) -> Fault:
    response = error.response
    said = _said(error)
    reason = f"{response.status_code} {response.reason_phrase}".strip() + (f": {_short(said)}" if said else "")
    code = response.status_code
    if code in (401, 402, 407):
        return Fault("closed", reason)
    if code in (403, 404):
        return Fault("forbidden", reason)
    if code in (408, 425, 429) or code >= 500:
        return Fault("busy" if code == 429 else "later", reason, retry_after(response.headers))
    return Fault("refused", reason)


def _said(error: Any) -> str:
    """The server's own words: OpenAI's error.message, FastAPI's detail, or whatever the client found."""
    try:
        body = error.response.json()
        found = body.get("error") or body.get("detail") or body.get("message")
        found = found.get("message") if isinstance(found, dict) else found
    except Exception:  # no JSON, no object, or a body that was never read
        found = None
    return str(found or getattr(error, "server_message", None) or "")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "..."
