"""Mail: messages with their heads, their bodies and the messages that they forward."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart

from ragft_pipeline.corpus.readers.decoding import declared_in, decode
from ragft_pipeline.corpus.readers.kinds import Reading, SkippedDocument
from ragft_pipeline.corpus.readers.markup import html_to_markdown
from ragft_pipeline.settings import CorpusSettings

_EMAIL_HEADERS = ("From", "To", "Cc", "Date")
_MAX_FORWARDED = 4  # messages inside one another


def read_mail(data: bytes, settings: CorpusSettings) -> Reading:
    """Return a message: subject, sender, receiver, date and body; attachments are named."""
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return _message(message, settings)


def _message(message: EmailMessage, settings: CorpusSettings, depth: int = 0) -> Reading:
    forwarded = []
    try:
        subject = " ".join(str(message.get("Subject", "")).split())
        lines = [f"{name}: {message[name]}" for name in _EMAIL_HEADERS if message.get(name)]
        body = message.get_body(preferencelist=("plain", "html"))
        text, warnings = _body(body, settings) if body is not None else ("", ())
        attached = []
        for part in message.iter_attachments():
            inner = part.get_content() if part.get_content_type() == "message/rfc822" else None
            if isinstance(inner, EmailMessage) and depth < _MAX_FORWARDED:
                forwarded.append(_message(inner, settings, depth + 1))
            else:
                attached.append(part.get_filename() or "without a name")
    except (LookupError, ValueError, AttributeError, KeyError, TypeError, AssertionError) as error:
        raise SkippedDocument(f"not a message ({type(error).__name__})") from None
    if not subject and not lines:
        raise SkippedDocument("not a message (no Subject, From, To or Date)")
    if attached:
        warnings = (*warnings, f"attachments are not read: {', '.join(attached)[:200]}")
    head = [f"{'#' * (depth + 1)} {subject}"] if subject else []
    parts = [*head, "\n".join(lines), text, *(one.text for one in forwarded)]
    warnings += tuple(doubt for one in forwarded for doubt in one.warnings)
    return Reading("\n\n".join(parts), subject, warnings)


def _body(part: MIMEPart, settings: CorpusSettings) -> tuple[str, tuple[str, ...]]:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return "", ()
    declared = part.get_content_charset()
    if part.get_content_subtype() == "html":
        decoded = decode(data, settings.encodings, declared or declared_in(data))
        return html_to_markdown(decoded.text).text, decoded.warnings
    decoded = decode(data, settings.encodings, declared)
    return decoded.text, decoded.warnings
