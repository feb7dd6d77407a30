"""Questions written by a language model: prompts, parsing, one row a node."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.compute import RowFunction
from ragft_pipeline.digests import digest_of
from ragft_pipeline.models.language_model import Reply
from ragft_pipeline.models.weights import (
    Weights,
    found_here,
    require_language_model,
    resolve_weights,
)
from ragft_pipeline.questions.drafts import (
    DRAFTS_SCHEMA,
    Draft,
    SourceNode,
    draft_row,
    random_of,
)
from ragft_pipeline.questions.embedded import EMBEDDED_VERSION, EmbeddedModel
from ragft_pipeline.questions.endpoint import EndpointModel
from ragft_pipeline.settings import ComputeSettings, LLMGenerator
from ragft_pipeline.store import Workspace

PROMPT_VERSION = 1  # raise it when the prompt or the parsing changes
PROMPT = """\
{text}

Ask {number} short questions that people at work would ask and that the facts above answer. Use \
everyday words and the language of the facts. Reply with the questions only, one per line, each \
ending in a question mark, and never mention the text they come from."""
_MAX_CHARACTERS = 3000
_NUMBERING = re.compile(
    r"^\s*(?:[-*•#>]+\s*"
    r"|\(?\d{1,2}[.):]\*{0,2}\s+"
    r"|(?:Question|Q)\s*\d*\s*\*{0,2}(?:[:)]|[.-](?=[\s*]))\s*\*{0,2}\s*)+",
    re.IGNORECASE,
)
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.IGNORECASE | re.DOTALL)


def build_prompt(node: SourceNode, number: int) -> str:
    """Return the prompt for a node."""
    text = node.text[:_MAX_CHARACTERS]
    if node.title and node.title not in text:
        text = f"{node.title}\n\n{text}"
    return PROMPT.format(text=text, number=number)


def spoken(reply: str) -> str:
    """Return a reply without what a model thinks aloud before it."""
    return _THINKING.sub("", reply)


def parse_questions(reply: str, number: int) -> list[str]:
    """Return the questions in a model's reply: lines that end in a question mark, unnumbered."""
    questions = []
    for line in spoken(reply).splitlines():
        text = _NUMBERING.sub("", line.strip()).strip().strip('*"“”_` ')
        if re.search(r"[?？]$", text):
            questions.append(text)
    return questions[:number]


class QuestionModel(Protocol):
    """What question writing needs of a language model."""

    def ask(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Reply | None]:
        """Answer each prompt; None where the model failed for good on that one."""
        ...


def open_model(settings: LLMGenerator, compute: ComputeSettings) -> QuestionModel:
    """Return the model that the settings name."""
    if settings.base_url is None:
        weights = require_language_model(resolve_weights(settings.model))
        return EmbeddedModel(weights, settings, compute)
    return EndpointModel(settings)


def chosen_nodes(nodes: Sequence[SourceNode], settings: LLMGenerator) -> list[SourceNode]:
    """Return the nodes the model is asked about, chosen by their own hashes.

    At most `max_nodes` of them: with more documents, a new node can then take another's place.
    """
    chosen = chosen_ids([node.node_id for node in nodes], settings)
    return [node for node in nodes if node.node_id in chosen]


def chosen_ids(node_ids: Iterable[str], settings: LLMGenerator) -> set[str]:
    """Return the ids of `chosen_nodes`; of the chosen ones, all are chosen again."""
    draws = {node_id: random_of(node_id, "share").random() for node_id in node_ids}
    ranked = sorted(draws, key=draws.__getitem__)[: settings.max_nodes or None]
    return {node_id for node_id in ranked if draws[node_id] < settings.share_of_nodes}


def write_questions(
    nodes: Sequence[SourceNode], settings: LLMGenerator, compute: ComputeSettings, work: Workspace
) -> dict[str, list[Draft]]:
    """Return the model's drafts by node id, asking only about nodes it was never asked about.

    Each finished batch is kept at once. A node the model fails on, after its retries, is counted
    as `llm_failures`, gets no row, and is asked about again in the next run.
    """
    asked = chosen_nodes(nodes, settings)
    identity = ""
    if settings.base_url is None:
        identity = digest_of(resolve_weights(settings.model).digest, EMBEDDED_VERSION)
    row_settings = digest_of(PROMPT_VERSION, settings.digest(), identity)
    cache = work.rows("llm_drafts", row_settings, DRAFTS_SCHEMA, family="*_qa_pairs")
    ask: Callable[[Sequence[SourceNode]], pa.Table]
    if settings.base_url is None:
        weights = require_language_model(resolve_weights(settings.model))
        ask = _AskEmbedded(settings, compute, weights)
    else:
        ask = partial(_ask, EndpointModel(settings), settings)

    def add_up(units: int, rows: pa.Table) -> None:
        work.count("llm_calls", units)
        if failures := units - rows.num_rows:
            work.count("llm_failures", failures)
        for name in ("prompt_tokens", "completion_tokens"):
            work.count(name, pc.sum(rows.column(name)).as_py() or 0)

    batch_size = settings.batch_size * (2 if settings.base_url is None else settings.concurrency)
    rows = cache.complete(asked, _row_key, ask, batch_size, add_up)
    by_key = dict(zip(rows.column("row_key").to_pylist(), rows.column("drafts").to_pylist()))
    return {node.node_id: [Draft(**d) for d in by_key.get(_row_key(node), [])] for node in asked}


def _ask(model: QuestionModel, settings: LLMGenerator, nodes: Sequence[SourceNode]) -> pa.Table:
    """Return the drafts of the nodes that got an answer."""
    prompts = [build_prompt(node, settings.questions_per_node) for node in nodes]
    seeds = [int(node.node_id[:7], 16) for node in nodes]
    rows = []
    for node, reply in zip(nodes, model.ask(prompts, seeds)):
        if reply is None:
            continue
        drafts = [
            Draft(question, "llm", 0, len(node.text))
            for question in parse_questions(reply.text, settings.questions_per_node)
        ]
        cost = {
            "llm_calls": 1,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
        }
        rows.append(draft_row(_row_key(node), drafts, **cost))
    return pa.Table.from_pylist(rows, schema=DRAFTS_SCHEMA)


@dataclass(frozen=True)
class _AskEmbedded(RowFunction[SourceNode]):
    """Drafts of the embedded model; a server is asked by the step itself, which keeps its pace."""

    seconds: ClassVar[float] = 0.5
    settings: LLMGenerator
    compute: ComputeSettings
    weights: Weights

    def __call__(self, units: Sequence[SourceNode]) -> pa.Table:
        weights = found_here(self.weights)
        model = EmbeddedModel(weights, self.settings, self.compute)
        return _ask(model, self.settings, units)


def _row_key(node: SourceNode) -> str:
    return digest_of(node.node_id, node.title)
