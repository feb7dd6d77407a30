"""What a new project begins with: a short ragft.yaml, workspace.yaml and .gitignore."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from ragft_pipeline.errors import RagftError
from ragft_pipeline.settings import SETTINGS_FILE, parse_settings

DOCUMENTS = "documents"  # of a project that names no other folder
_SETTINGS = """\
# The settings of a corpus that people change. All others, with their defaults: `ragft settings`.
# Relative paths are from this file's folder. A wrong value is named in one line.

store: .ragft                # artifacts; a folder, or a URL that machines share (s3://…, gs://…, az://…)

corpus:
  source: {source}
  gold_questions: null       # what people ask: JSON lines of question, doc, answer_text;
                             # null: queries.jsonl beside the documents. `ragft label` makes some
  exclude: []                # gitignore patterns of what is no document

chunking:
  size: 256                  # tokens
  overlap: 24

embedder:                    # the base model everything is measured against
  model: embedded:all-minilm-l6-v2   # or a hub id (moka-ai/m3e-base) or a local folder
  query_prompt: null         # put before every question, "query: " for E5 say

# questions:                 # a language model that writes questions, or a log of what people asked
#   generators:
#     - kind: extractive
#     - {{kind: llm, model: chatglm3-6b, base_url: "http://127.0.0.1:11434/v1"}}
#     - {{kind: log, path: searches.jsonl}}

# reranker:
#   model: null              # a cross-encoder to start from: a hub id or a local folder

# retrain_policy:
#   kind: always             # or share_changed, drift: keep models while little has changed

gate:
  min_gain: 0.01             # mean nDCG@10 over what is served, its interval and p value beside it

compute:
  device: auto               # cpu, cuda or mps
  threads: 0                 # 0: all cores
"""
_WORKSPACE = """\
load_from:
  - python_module: ragft_pipeline.definitions  # the corpus of ragft.yaml in this folder
"""
_IGNORED = "/.ragft/\n"


def all_settings() -> str:
    """Return the whole ragft.yaml: every setting with its default, commented."""
    return files("ragft_pipeline.settings").joinpath(SETTINGS_FILE).read_text(encoding="utf-8")


def start_project(folder: Path, source: str | None) -> list[Path]:
    """Write a project's files into a folder, and return those written.

    Args:
        source: the folder or URL of the documents; by default `documents` in the folder.

    Raises RagftError for a folder that cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise RagftError(f"{folder} is not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    if source is None:
        (folder / DOCUMENTS).mkdir(exist_ok=True)
    elif "://" not in source:
        source = str(Path(source).expanduser().absolute())
    written = write_project(folder, source or DOCUMENTS)
    return written + _write(folder, {"workspace.yaml": _WORKSPACE})


def write_project(folder: Path, source: str) -> list[Path]:
    """Write a short ragft.yaml over documents, and a .gitignore for its store."""
    text = _SETTINGS.format(source=json.dumps(source, ensure_ascii=False))
    parse_settings(text)
    return _write(folder, {SETTINGS_FILE: text, ".gitignore": _IGNORED})


def _write(folder: Path, files: dict[str, str]) -> list[Path]:
    """Write the files that are not there yet: what a person changed is kept."""
    missing = [folder / name for name in files if not (folder / name).exists()]
    for path in missing:
        path.write_text(files[path.name], encoding="utf-8")
    return missing
