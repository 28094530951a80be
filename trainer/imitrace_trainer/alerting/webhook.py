"""Post an alert to a webhook: signed, within a time limit, tried a few times, and never redirected."""

import hashlib
import hmac
import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import IO, Any, Final

from imitrace_trainer.alerting.config import AlertsConfig

_FIRST_PAUSE: Final = 0.5
_AGAIN: Final = frozenset((408, 425, 429, 500, 502, 503, 504))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for a refusal: what is signed for one place goes to no other."""

    def redirect_request(  # noqa: PLR0913 - the parent's
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Follow none."""


def post(config: AlertsConfig, told: Mapping[str, Any], at: int, secrets: tuple[str | None, str | None]) -> str | None:
    """Post an alert, and return why it was not taken, None where it was.

    Args:
        config: where to, and how often.
        told: the alert as JSON values.
        at: seconds since 1970; signed with the body, so that nobody sends it again later unnoticed.
        secrets: a bearer token, and a key of HMAC-SHA256 over ``AT.BODY``, as far as there are such.
    """
    token, key = secrets
    body = json.dumps(told).encode()
    headers = {"content-type": "application/json", "user-agent": "imitrace"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    if key:
        signature = hmac.new(key.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        headers["x-imitrace-signature"] = f"t={at},v1={signature}"
    pause, problem = _FIRST_PAUSE, ""
    for tried in range(config.tries):
        if tried:
            threading.Event().wait(pause)
            pause *= 2
        request = urllib.request.Request(config.webhook, body, headers, method="POST")  # noqa: S310 - checked
        again, problem = _once(request, config.timeout)
        if not problem:
            return None
        if not again:
            return problem
    return f"{problem}, {config.tries} times"


def _once(request: urllib.request.Request, timeout: float) -> tuple[bool, str]:
    """Return whether it is worth another try, and what is wrong, nothing where it was taken."""
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=timeout):
            return False, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code in _AGAIN, f"the webhook answered {error.code}"
    except (OSError, http.client.HTTPException) as error:  # TimeoutError and URLError are among them
        return True, f"the webhook can't be reached ({error})"
    except ValueError as error:
        return False, f"the webhook can't be asked ({error})"
