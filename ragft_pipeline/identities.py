"""What an identity says of the code: version constants, by the modules that hold them.

A module whose results are kept has a constant beside what computes them, `CHUNKER_VERSION = 1` say,
which is raised when some result would come out differently. Whoever names the module gets all of
its constants, so one that is added to it needs no second place.
"""

from __future__ import annotations

from importlib import import_module

SCORING = (
    "retrieval.encoder", "retrieval.late_interaction", "retrieval.token_vectors", "retrieval.words",
)  # fmt: skip
SEARCHING = (*SCORING, "retrieval.evidence")
LIBRARY_VERSION = 1  # raise it when a library's new version gives other vectors, nodes or trainings


def versions(*modules: str) -> dict[str, int]:
    """Return the constants of modules, `retrieval.encoder` say, and the libraries' own."""
    found = {"LIBRARY_VERSION": LIBRARY_VERSION}
    for module in modules:
        held = vars(import_module(f"ragft_pipeline.{module}"))
        found |= {f"{module}.{n}": held[n] for n in held if n.endswith("_VERSION")}
    return found
