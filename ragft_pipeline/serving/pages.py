"""Pages of one file: no script runs but their own, and nothing comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

_COMMON = Path(__file__).with_name("common.css")


def page_with_headers(file: Path) -> tuple[str, dict[str, str]]:
    """Return a page with one script and one style, and the headers that allow these alone.

    Before its own style stands what all pages have in common.
    """
    common = _COMMON.read_text(encoding="utf-8")
    page = file.read_text(encoding="utf-8").replace("<style>\n", f"<style>\n{common}", 1)
    sources = {}
    for tag in ("script", "style"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        sources[tag] = f"{tag}-src 'sha256-{digest}'"
    policy = (
        f"default-src 'none'; {sources['script']}; {sources['style']}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
