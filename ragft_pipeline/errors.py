"""The errors a user can cause: one clear line each, saying what to do, without credentials."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

_CHAIN = re.compile(r"::(?=[A-Za-z][\w+.-]*(?:://|::))")  # fsspec: zip://a.md::s3://bucket/b.zip
# user info as it should be, else with a password whose / ? # nobody escaped
_USER = re.compile(r"(?<=://)(?:[^/?#]*|[^/:@]*:(?!\d*(?:/|$)).*)@")
_QUERY = re.compile(r"\?.*", re.DOTALL)
_URL = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"<>]+")


class RagftError(Exception):
    """A mistake in settings, documents, endpoints or models; shown as its text alone."""


class TransientError(RagftError):
    """A failure that passes by itself, such as a server's outage: worth another try later."""


def redacted(url: str) -> str:
    """Return a URL without its user info and query string; a plain path stays as it is."""
    links = _CHAIN.split(url)
    return "::".join(
        _QUERY.sub("", _USER.sub("", link)) if "://" in link else link for link in links
    )


def one_line(error: BaseException, url: str = "", keys: Iterable[str] = ()) -> str:
    """Return an error's text as one line without the credentials of `url` or of any other URL.

    Args:
        keys: what must not be shown either; a service may repeat the key that it was sent.
    """
    text = str(error).replace(url, redacted(url)) if url else str(error)
    secrets = _secrets(url).union(key for key in keys if key)
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    text = _URL.sub(lambda match: redacted(match.group()), text)
    return " ".join(text.split())[:500] or type(error).__name__


def _secrets(url: str) -> set[str]:
    found: set[str] = set()
    for link in _CHAIN.split(url):
        if "://" not in link:
            continue
        if user := _USER.search(link):
            found |= {user.group(), user.group()[:-1].partition(":")[2]}
        if query := _QUERY.search(_USER.sub("", link)):
            values = [pair.partition("=")[2] for pair in query.group()[1:].split("&")]
            found |= {query.group(), *(value for value in values if len(value) > 5)}
    return {form for secret in found if secret for form in (secret, unquote(secret))}
