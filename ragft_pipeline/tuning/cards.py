"""Model cards: what a folder holds, how it was made and how to load it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_card(folder: Path, title: str, summary: str, facts: dict[str, Any], loading: str) -> None:
    """Write the README.md of a model folder and the same facts as ragft_card.json."""
    lines = [f"# {title}", "", summary, "", "| fact | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += ["", "## Loading", "", "```python", loading.strip(), "```", ""]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
    (folder / "ragft_card.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
