"""Telling people of a decision: the log, and a webhook where one is set."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict

from ragft_pipeline.serving.history import Entry
from ragft_pipeline.settings import GateSettings

_LOG = logging.getLogger("ragft.champion")
_SECONDS = 5.0


def tell(entry: Entry, gate: GateSettings) -> None:
    """Log a decision and post it as JSON to the URL in the environment variable `webhook_env`.

    A webhook that fails is logged and no more: the decision stands. The URL, which may hold a
    secret, is never logged.
    """
    _LOG.info("%s: bundle %s for %s (%s)", entry.event, entry.bundle, entry.version, entry.why)
    url = os.environ.get(gate.webhook_env, "") if gate.webhook_env else ""
    if not url:
        return
    import httpx

    try:
        httpx.post(url, json=asdict(entry), timeout=_SECONDS).raise_for_status()
    except httpx.HTTPStatusError as error:
        _LOG.warning("the webhook answered with status %s", error.response.status_code)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        _LOG.warning("the webhook could not be told: %s", type(error).__name__)
