"""The one result format: figures with units, and what misses its bar."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass
class Results:
    """Figures of one benchmark run, and the shortfalls among them."""

    name: str
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    shortfalls: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Record a figure; one that misses its bar becomes a shortfall."""
        self.figures[name] = {"value": round(value, 4), "unit": unit}
        if at_least is not None and value < at_least:
            self.shortfalls.append(f"{name}: {value:.4g} {unit}, wanted at least {at_least:g}")
        if at_most is not None and value > at_most:
            self.shortfalls.append(f"{name}: {value:.4g} {unit}, wanted at most {at_most:g}")

    def keep_others(self) -> None:
        """Keep what an earlier run wrote about sets (a name's first part) that this one has not."""
        path = RESULTS / f"{self.name}.json"
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        mine = {name.split("/")[0] for name in self.figures}
        for name, figure in earlier.get("figures", {}).items():
            if name.split("/")[0] not in mine:
                self.figures[name] = figure
        self.shortfalls += [
            line for line in earlier.get("shortfalls", []) if line.split("/")[0] not in mine
        ]

    def save(self) -> None:
        """Write results/NAME.json."""
        RESULTS.mkdir(exist_ok=True)
        body = {"figures": self.figures, "shortfalls": self.shortfalls}
        path = RESULTS / f"{self.name}.json"
        path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def finish(self) -> int:
        """Write results/NAME.json, print the shortfalls and return the exit code."""
        self.save()
        for line in self.shortfalls:
            print(f"shortfall: {line}")
        return 1 if self.shortfalls else 0
