"""What code calls, read from the source: which definitions of the package others lead to."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import ragft_pipeline

PACKAGE = ragft_pipeline.__name__
Definition = tuple[str, str]
"""A module and the name of something at its top level."""


@dataclass
class Module:
    """The definitions of a module, its version constants, and where its imported names are from."""

    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    constants: list[str] = field(default_factory=list)
    imported: dict[str, Definition] = field(default_factory=dict)


class _Names(ast.NodeVisitor):
    """The names that a definition uses, but for those in annotations."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.imported: dict[str, Definition] = {}

    def visit_Name(self, node: ast.Name) -> None:
        self.names.add(node.id)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imported |= _imported(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults, *node.body):
            if part is not None:
                self.visit(part)


def _imported(node: ast.ImportFrom) -> dict[str, Definition]:
    if not (node.module or "").startswith(PACKAGE):
        return {}
    return {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}


@lru_cache(maxsize=1)
def modules() -> dict[str, Module]:
    """Return the modules of the package by name, `retrieval.encoder` as `ragft_pipeline.…`."""
    root = Path(ragft_pipeline.__file__).parent
    found = {}
    for file in root.rglob("*.py"):
        parts = file.relative_to(root.parent).with_suffix("").parts
        module = found[".".join(parts).removesuffix(".__init__")] = Module()
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                module.imported |= _imported(node)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                module.definitions[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                named = (each for target in targets for each in ast.walk(target))
                names = [each.id for each in named if isinstance(each, ast.Name)]
                module.definitions |= dict.fromkeys(names, node)
                module.constants += [name for name in names if name.endswith("_VERSION")]
    return found


def _definition(module: str, name: str) -> Definition | None:
    while module in modules():
        if name in modules()[module].definitions:
            return module, name
        if name not in modules()[module].imported:
            break
        module, name = modules()[module].imported[name]
    return None


def reached(starts: Iterable[Definition], pass_over: Collection[str]) -> set[Definition]:
    """Return the definitions that some lead to; those named in `pass_over` are not followed."""
    waiting, found = list(starts), set(starts)
    while waiting:
        module, own = waiting.pop()
        names = _Names()
        names.visit(modules()[module].definitions[own])
        for name in names.names - set(pass_over):
            there = _definition(*names.imported.get(name, (module, name)))
            if there is not None and there not in found:
                found.add(there)
                waiting.append(there)
    return found


def computing_modules(found: Iterable[Definition]) -> set[str]:
    """Return the modules with version constants of which functions or classes are among some."""
    return {
        module.removeprefix(f"{PACKAGE}.")
        for module, name in found
        if modules()[module].constants
        and isinstance(modules()[module].definitions[name], ast.FunctionDef | ast.ClassDef)
    }


def openers_of_row_tables() -> set[str]:
    """Return the functions that open a table of reused rows."""
    return {
        name
        for module in modules().values()
        for name, node in module.definitions.items()
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "rows"
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "work"
    }
