"""Replies of language models as rows: what was answered once is never asked again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from ragft_pipeline.digests import digest_of
from ragft_pipeline.models.language_model import Reply
from ragft_pipeline.store import Workspace

Prompt = TypeVar("Prompt")
REPLIES_VERSION = "1"  # of the columns below
_TOKENS = ("prompt_tokens", "completion_tokens")
_REPLIES = pa.schema(
    [("row_key", pa.string()), ("text", pa.string()), *((name, pa.int64()) for name in _TOKENS)]
)


def cached_replies(
    work: Workspace,
    name: str,
    row_settings: str,
    prompts: Mapping[str, Prompt],
    ask: Callable[[Sequence[Prompt]], Sequence[Reply | None]],
    batch_size: int,
    family: str | None = None,
) -> dict[str, Reply]:
    """Return the replies by row key, asking only what no artifact has a reply to.

    A prompt that got none has no entry, counts as `llm_failures`, and is asked again next time.

    Args:
        prompts: by row key.
        family: a glob over asset names that share the rows, by default this asset alone.
    """

    def write(row_keys: Sequence[str]) -> pa.Table:
        replies = ask([prompts[row_key] for row_key in row_keys])
        rows = [
            {"row_key": row_key, **vars(reply)}
            for row_key, reply in zip(row_keys, replies)
            if reply is not None
        ]
        return pa.Table.from_pylist(rows, schema=_REPLIES)

    def add_up(asked: int, rows: pa.Table) -> None:
        work.count("llm_calls", asked)
        if failures := asked - rows.num_rows:
            work.count("llm_failures", failures)
        for column in _TOKENS:
            work.count(column, pc.sum(rows.column(column)).as_py() or 0)

    cache = work.rows(name, digest_of(REPLIES_VERSION, row_settings), _REPLIES, family)
    rows = cache.complete(list(prompts), str, write, batch_size, add_up)
    return {row.pop("row_key"): Reply(**row) for row in rows.to_pylist()}
