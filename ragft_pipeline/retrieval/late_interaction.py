"""Late interaction: MaxSim over the token vectors of an embedder (Khattab & Zaharia 2020).

MaxSim is the mean, over the question's tokens, of the best cosine among the passage's tokens: no
training is needed, and questions and passages are encoded apart. Tuning touches the question's side
alone, so stored passages stand.

A pair's score is a blend of the MaxSim of the whole passage and, mostly, of its best stretch of 48
tokens: what is asked is answered in one place, and a long passage has something for every token
somewhere. The stretch was set after a look at COVID-QA, five tools' documentation and the sample.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ragft_pipeline.compute.mapping import batches
from ragft_pipeline.digests import digest_of, text_key
from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.retrieval.maxsim import (
    BLOCK,
    BLOCKS,
    TokenRows,
    blended,
    pair_scores,
)
from ragft_pipeline.retrieval.question_tuning import CARD_FILE, MODEL_FILE, QuestionTuning
from ragft_pipeline.retrieval.token_vectors import (
    STORAGE_VERSION,
    StoredTokens,
    TokenStore,
    TokenVectors,
    encode_tokens,
    rotation,
    store_tokens,
)
from ragft_pipeline.settings import ComputeSettings, EmbedderSettings

MAXSIM_VERSION = 1  # raise it when some pair would get another score
STRETCH = 0.65
_KNOWN_BYTES = 64_000_000  # of questions, with their token vectors, that are kept for later calls
_BLOCK = 256  # passages whose token vectors are held at once
_STORED_BLOCK = 8192  # the same as codes


@dataclass(frozen=True)
class _Question:
    tokens: np.ndarray
    vectors: np.ndarray
    counts: np.ndarray  # of its tokens, summing to 1

    def size(self, text: str) -> int:
        """Return the bytes that it takes to keep, with its text."""
        return sys.getsizeof(text) + self.vectors.nbytes + self.counts.nbytes


class LateInteraction:
    """Scores (question, passage) pairs by MaxSim.

    Args:
        encoder: the embedder whose token vectors are compared, base or tuned.
        tuning: of the question's side; None leaves it as it is.
        stored: token vectors of passages, read instead of encoded. A passage that is not among
            them is encoded and rounded in the same way; without them nothing is rounded.
        stretch: how much a passage's best stretch counts beside the whole of it.
        questions: returns the token vectors of questions; by default the encoder makes them.
    """

    def __init__(
        self,
        encoder: Encoder,
        tuning: QuestionTuning | None = None,
        stored: TokenStore | None = None,
        stretch: float = STRETCH,
        questions: Callable[[Sequence[str]], TokenVectors] | None = None,
    ) -> None:
        if stored is not None and stored.identity != encoder.identity("document"):
            raise RagftError("the stored token vectors are of another embedder: make them again")
        self._encoder = encoder
        self._tuning = tuning
        self._stored = stored
        self.stretch = stretch
        self._questions = questions or (lambda texts: encode_tokens(encoder, texts, "query"))
        self._known: dict[str, _Question] = {}
        self._held = 0  # bytes

    @classmethod
    def load(
        cls,
        folder: Path | str,
        embedder: EmbedderSettings,
        compute: ComputeSettings,
        stored: TokenStore | None = None,
    ) -> LateInteraction:
        """Return the scorer that `save` wrote, over the base embedder.

        A folder of before there were stretches scores as it did, by whole passages.
        """
        folder = Path(folder)
        encoder = Encoder.base(embedder, compute)
        trained = (folder / MODEL_FILE).is_file()
        tuning = QuestionTuning.load(folder, encoder.weights.digest) if trained else None
        card = folder / CARD_FILE
        said = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
        return cls(encoder, tuning, stored, float(said.get("stretch", 0.0)))

    def save(self, folder: Path) -> None:
        """Save what is not the embedder's: the tuning where there is one, and the stretch."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._tuning is not None:
            self._tuning.save(folder)
        card = {"base_digest": self._encoder.weights.digest, "stretch": self.stretch}
        (folder / CARD_FILE).write_text(json.dumps(card, indent=1), encoding="utf-8")

    def over(self, stored: TokenStore) -> LateInteraction:
        """Return the same over other passages."""
        return LateInteraction(self._encoder, self._tuning, stored, self.stretch)

    def holding(self, passages: Sequence[str]) -> LateInteraction:
        """Return the same with the stored token vectors of some passages in memory."""
        return self if self._stored is None else self.over(self._stored.of(passages))

    @cached_property
    def identity(self) -> str:
        """A digest of what decides a pair's score: embedder, prompts, tuning, rounding, stretch."""
        sides = [self._encoder.identity(kind) for kind in ("query", "document")]
        if self._tuning is None and self._stored is None:
            return digest_of(MAXSIM_VERSION, self.stretch, sides)
        tuning = self._tuning.digest() if self._tuning else ""
        rounding = [STORAGE_VERSION, self._stored.bits] if self._stored else []
        return digest_of(MAXSIM_VERSION, self.stretch, sides, tuning, rounding)

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return one score a pair (question, passage), float32; 0 where either has no tokens.

        Each distinct text is encoded once; the token vectors of a block of passages are held.
        """
        asked = self._asked_of(pairs)
        device = self._encoder.device
        if device == "cpu":
            scores = self._scores_here(pairs, asked)
        else:
            scores = self._scores_on(device, pairs, asked)
        self._forget()
        return scores

    def compared(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return what tuning weighs: each question's tokens and their best cosines in the passage.

        That is int (tokens,) and float32 (1 + stretches, tokens), of the whole passage and of its
        stretches, or nothing where either has no tokens; the same whatever else is compared.
        """
        nothing = np.empty(0, np.int32), np.empty((0, 0), np.float32)
        found = [nothing] * len(pairs)
        asked = self._asked_of(pairs)
        for passage, vectors in self._passages(sorted(asked, key=len)):
            if not len(vectors):
                continue
            questions = [self._known[pairs[row][0]] for row in asked[passage]]
            own = np.concatenate([question.vectors for question in questions]).astype(np.float64)
            best = _by_stretch(vectors.astype(np.float64) @ own.T).astype(np.float32)
            ends = np.cumsum([len(question.tokens) for question in questions])
            for row, one, part in zip(asked[passage], questions, np.split(best, ends[:-1], axis=1)):
                found[row] = one.tokens, part
        self._forget()
        return found

    def _asked_of(self, pairs: Sequence[tuple[str, str]]) -> dict[str, list[int]]:
        """Learn the questions; return by passage the pairs whose question has tokens."""
        self._learn([question for question, _ in pairs])
        asked: dict[str, list[int]] = {}
        for row, (question, passage) in enumerate(pairs):
            if len(self._known[question].counts):
                asked.setdefault(passage, []).append(row)
        return asked

    def asked(self, question: str) -> np.ndarray:
        """Return a question's token vectors, each times its share, float32 (tokens, width).

        Their best inner products with a passage's stored vectors sum to the MaxSim of the whole
        passage, so a store that keeps those vectors can score by it.
        """
        self._learn([question])
        found = self._known[question]
        self._forget()
        return found.vectors * found.counts[:, None]

    def _scores_here(
        self, pairs: Sequence[tuple[str, str]], asked: dict[str, list[int]]
    ) -> np.ndarray:
        """Score passage by passage with all that is asked of it: `asked` has the pairs of each."""
        scores = np.zeros(len(pairs), np.float32)
        for passage, vectors in self._passages(sorted(asked, key=len)):
            if not len(vectors):
                continue
            rows = asked[passage]
            questions = [self._known[pairs[row][0]] for row in rows]
            own = np.concatenate([question.vectors for question in questions])
            counts = np.concatenate([question.counts for question in questions])
            lengths = [len(question.counts) for question in questions]
            best = _by_stretch(vectors @ own.T) * counts
            found = np.add.reduceat(best, np.cumsum([0, *lengths[:-1]]), axis=1)
            scores[rows] = blended(found[0], found[1:].max(axis=0), self.stretch)
        return scores

    def _scores_on(
        self, device: str, pairs: Sequence[tuple[str, str]], asked: dict[str, list[int]]
    ) -> np.ndarray:
        """Score a block of passages at a time on a device; `asked` has the pairs of each."""
        import torch

        scores = np.zeros(len(pairs), np.float32)
        texts = list(dict.fromkeys(pairs[row][0] for rows in asked.values() for row in rows))
        if not texts:
            return scores
        place = {text: number for number, text in enumerate(texts)}
        known = [self._known[text] for text in texts]
        questions = TokenRows(
            torch.from_numpy(np.concatenate([one.vectors for one in known])).to(device),
            np.array([len(one.counts) for one in known]),
        )
        shares = torch.from_numpy(np.concatenate([one.counts for one in known])).to(device)
        for block, shown in self._blocks_on(device, sorted(asked, key=len)):
            rows, both = [], []
            for number, passage in enumerate(block):
                if shown.lengths[number]:
                    rows += asked[passage]
                    both += [(place[pairs[row][0]], number) for row in asked[passage]]
            if rows:
                scores[rows] = pair_scores(questions, shares, shown, np.array(both), self.stretch)
        return scores

    def _blocks_on(
        self, device: str, passages: Sequence[str]
    ) -> Iterator[tuple[Sequence[str], TokenRows]]:
        """Yield passages with their token vectors on a device, rounded where they are stored."""
        import torch

        if self._stored is not None and len(passages) > _STORED_BLOCK:
            for part in batches(passages, _STORED_BLOCK):
                yield from self._blocks_on(device, part)
            return
        stored = self._stored.of(passages) if self._stored is not None else None
        rows = [stored.rows.get(text_key(passage)) if stored else None for passage in passages]
        held = [(passage, row) for passage, row in zip(passages, rows) if row is not None]
        for some in batches(held, _BLOCK):
            assert stored is not None
            places = [row for _, row in some]
            vectors = stored.vectors_on(device, places)
            yield [passage for passage, _ in some], TokenRows(vectors, stored.lengths[places])
        for block in batches([text for text, row in zip(passages, rows) if row is None], _BLOCK):
            if stored is not None:
                rounded = store_tokens(self._encoder, block, stored.bits)
                vectors = rounded.vectors_on(device, range(len(block)))
                yield block, TokenRows(vectors, rounded.lengths)
            else:
                tokens = encode_tokens(self._encoder, block, "document")
                yield block, TokenRows(torch.from_numpy(tokens.vectors).to(device), tokens.lengths)

    def _forget(self) -> None:
        """Drop the questions learnt first, until the others fit."""
        while self._held > _KNOWN_BYTES:
            text = next(iter(self._known))
            self._held -= self._known.pop(text).size(text)

    def _passages(self, passages: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        stored = self._stored
        if stored is None:
            for start in range(0, len(passages), _BLOCK):
                block = passages[start : start + _BLOCK]
                yield from zip(block, encode_tokens(self._encoder, block, "document").split())
            return
        for part in batches(passages, _STORED_BLOCK):
            yield from self._stored_passages(stored.of(part), part)

    def _stored_passages(
        self, stored: StoredTokens, passages: Sequence[str]
    ) -> Iterator[tuple[str, np.ndarray]]:
        rows = {passage: stored.rows.get(text_key(passage)) for passage in passages}
        for passage, row in rows.items():
            if row is not None:
                yield passage, stored.vectors(row)
        missing = [passage for passage, row in rows.items() if row is None]
        for start in range(0, len(missing), _BLOCK):
            block = missing[start : start + _BLOCK]
            rounded = store_tokens(self._encoder, block, stored.bits)
            for row, passage in enumerate(block):
                yield passage, rounded.vectors(row)

    def _learn(self, questions: Sequence[str]) -> None:
        """Encode the questions that were not asked before."""
        new = [text for text in dict.fromkeys(questions) if text not in self._known]
        tokens = self._questions(new)
        ids, vectors = tokens.token_ids, tokens.vectors
        counts = np.ones(len(ids), np.float32)
        if self._tuning is not None:
            counts = self._tuning.weights[ids]
        if self._stored is not None and len(vectors):
            vectors = vectors @ rotation(vectors.shape[1])
        end = 0
        for text, length in zip(new, tokens.lengths):
            start, end = end, end + int(length)
            share = counts[start:end]
            share = share / max(float(share.sum()), 1e-9)
            # a copy: a slice would keep the vectors of all the others
            self._known[text] = _Question(ids[start:end].copy(), vectors[start:end].copy(), share)
            self._held += self._known[text].size(text)


def _by_stretch(cosines: np.ndarray) -> np.ndarray:
    """Return each question token's best cosine in a passage, and in each of its stretches.

    Args:
        cosines: float (passage tokens, question tokens).

    Returns an array of shape (1 + stretches, question tokens), the whole passage first.
    """
    blocks = np.maximum.reduceat(cosines, np.arange(0, len(cosines), BLOCK), axis=0)
    number = max(1, len(blocks) - BLOCKS + 1)
    parts = [blocks[start : start + number] for start in range(len(blocks) - number + 1)]
    return np.concatenate([blocks.max(axis=0, keepdims=True), np.maximum.reduce(parts)])
