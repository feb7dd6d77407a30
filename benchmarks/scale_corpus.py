"""A corpus of any size from real sentences, and a vector model that costs next to nothing.

Halves of sentences are joined anew (the first words of one, the last of another), so that a
million chunks come from a few megabytes of text and hardly two are alike. The vector model is the
mean of the base embedder's word vectors, rare words weighted up: width, storage and search cost
what the real ones do.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ragft_pipeline.corpus.chunking import load_tokenizer
from ragft_pipeline.corpus.readers import normalise
from ragft_pipeline.corpus.sentences import sentence_spans
from ragft_pipeline.corpus.splitting import Splitter
from ragft_pipeline.models.weights import Weights, resolve_weights
from ragft_pipeline.settings import ChunkingSettings, EmbedderSettings

CHUNKS_A_DOCUMENT = 20
_SUFFIXES = (".md", ".txt")
_LENGTHS = (40, 400)  # characters of a sentence that is used
_A_FOLDER = 1000
_A_SECTION = 12  # sentences
_PROBES = 40


def sentence_halves(folders: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Return beginnings and endings of the sentences in the folders' documents."""
    files = sorted(
        file for folder in folders for file in folder.rglob("*.*") if file.suffix in _SUFFIXES
    )
    heads, tails = [], []
    for file in files:
        text = normalise(file.read_text(encoding="utf-8", errors="replace"))
        for start, end in sentence_spans(text):
            words = text[start:end].split()
            sentence = " ".join(words)
            if _LENGTHS[0] <= len(sentence) <= _LENGTHS[1] and len(words) >= 6:
                heads.append(" ".join(words[: len(words) // 2]))
                tails.append(" ".join(words[len(words) // 2 :]))
    return heads, tails


class CorpusMaker:
    """Writes documents of about `CHUNKS_A_DOCUMENT` chunks each; the same ones every time."""

    def __init__(self, folders: Sequence[Path], chunking: ChunkingSettings, seed: int) -> None:
        self._heads, self._tails = sentence_halves(folders)
        self._seed = seed
        splitter = Splitter(chunking, load_tokenizer(resolve_weights(EmbedderSettings().model)))
        self.characters = 4000
        probes = [self.document(number) for number in range(_PROBES)]
        chunks = sum(len(splitter.cut(text, markdown=True)) for text in probes)
        self.characters = round(sum(map(len, probes)) / chunks * CHUNKS_A_DOCUMENT)

    def document(self, number: int) -> str:
        """Return the text of one document."""
        chance = random.Random(f"{self._seed}-{number}")
        parts, length = [f"# {chance.choice(self._heads)} {number}\n\n"], 0
        while length < self.characters:
            if len(parts) % _A_SECTION == 0:
                parts.append(f"\n\n## {chance.choice(self._heads)}\n\n")
            sentence = f"{chance.choice(self._heads)} {chance.choice(self._tails)}"
            parts.append(f"{sentence} " if sentence.endswith((".", "!", "?")) else f"{sentence}. ")
            length += len(parts[-1])
        return "".join(parts)

    def write(self, chunks: int, folder: Path) -> int:
        """Write the documents of a corpus of about `chunks` chunks; returns how many."""
        number = max(3, round(chunks * 1.01 / CHUNKS_A_DOCUMENT))
        for index in range(number):
            path = self.path(folder, index)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.document(index), encoding="utf-8")
        return number

    def edit(self, folder: Path, number: int) -> None:
        """Put a sentence into the middle of a document."""
        text = self.document(number)
        middle = text.index(". ", len(text) // 2) + 2
        edited = f"{text[:middle]}This sentence was added later on. {text[middle:]}"
        self.path(folder, number).write_text(edited, encoding="utf-8")

    @staticmethod
    def path(folder: Path, number: int) -> Path:
        """Return where a document lies."""
        return folder / f"{number // _A_FOLDER:04d}" / f"{number % _A_FOLDER:03d}.md"


def save_mean_of_words(base: Weights, folder: Path) -> None:
    """Save the stand-in as a sentence-transformers model: the mean of the base's word vectors."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer

    model = SentenceTransformer(str(base.folder), device="cpu", local_files_only=True)
    words = model[0].auto_model.get_input_embeddings().weight.detach().float().numpy()
    tokenizer = Tokenizer.from_file(str(base.folder / "tokenizer.json"))
    words = (words - words.mean(axis=0)) * np.log1p(np.arange(len(words)))[:, None]  # ids by rarity
    static = StaticEmbedding(tokenizer, embedding_weights=words.astype(np.float32))
    SentenceTransformer(modules=[static]).save(str(folder))
    shutil.copyfile(base.folder / "tokenizer.json", folder / "tokenizer.json")
