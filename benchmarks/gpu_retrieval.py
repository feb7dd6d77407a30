"""Stages of benchmarks.gpu that find: encoding, token vectors, MaxSim, maps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.gpu_bench import Bench, Row, quiet, relative_error
from benchmarks.gpu_data import Lessons, made_questions
from benchmarks.gpu_floor import Work, forward_operations, lengths_of, timed
from ragft_pipeline.models.devices import pick_device, texts_at_once
from ragft_pipeline.retrieval.adapters import Adapter
from ragft_pipeline.retrieval.encoder import KINDS, Encoder
from ragft_pipeline.retrieval.late_interaction import LateInteraction
from ragft_pipeline.retrieval.search import top_k
from ragft_pipeline.retrieval.token_vectors import encode_tokens, store_tokens
from ragft_pipeline.settings import ComputeSettings
from ragft_pipeline.tuning.maps import MapLesson, Maps, fit_maps

WARM = 8  # an eighth of what is timed is computed before
FOUND = 20  # passages of a question that MaxSim orders


def encoding(bench: Bench) -> Iterator[Row]:
    """Documents and questions, in float32 as shipped and in bfloat16."""
    texts = {"document": bench.texts.passages, "query": bench.texts.questions}
    windows = bench.texts.windows(bench.sizes.texts)
    many = {"document": windows, "query": made_questions(windows)}
    wanted, beside = bench.reference, bench.encoder(bench.beside)
    beside.encode(windows[:2], "document")
    cpu = {kind: timed("cpu", beside.encode, texts[kind], kind)[1] for kind in KINDS}
    before = bench.texts.ndcg(wanted["query"], wanted["document"])
    for dtype in ("float32", "bfloat16"):
        encoder = bench.encoder(bench.here, dtype)
        found = {kind: encoder.encode(texts[kind], kind) for kind in KINDS}
        apart = abs(bench.texts.ndcg(found["query"], found["document"]) - before)
        for kind in KINDS:
            encoder.encode(many[kind][: -(-len(windows) // WARM)], kind)
            vectors, seconds = timed(bench.device, encoder.encode, many[kind], kind)
            yield Row(
                f"encoding, {kind}", dtype, "texts",
                relative_error(found[kind], wanted[kind]), apart,
                len(windows) / seconds, len(texts[kind]) / cpu[kind], seconds,
                encoding_work(bench, encoder, many[kind], vectors.nbytes),
                full=kind == "document",
            )  # fmt: skip


def encoding_work(bench: Bench, encoder: Encoder, texts: list[str], sent: float) -> Work:
    """Return the work of encoding: every batch reads the weights, what is found is sent."""
    model = encoder.model
    most = int(model.max_seq_length or 512)
    lengths = lengths_of(model.tokenizer, texts, most)
    passes = -(-len(texts) // texts_at_once(bench.here, most, model.transformers_model))
    weights = sum(part.nbytes for part in model.transformers_model.parameters())
    operations = forward_operations(model.transformers_model, lengths)
    return Work(operations, passes * weights + sent, sent)


def token_vectors(bench: Bench) -> Iterator[Row]:
    """Token vectors, and MaxSim over them as they are stored."""
    texts = bench.texts
    dense = bench.reference["query"] @ bench.reference["document"].T
    near = top_k(dense, FOUND)
    pairs = [
        (texts.questions[row], texts.passages[at]) for row, own in enumerate(near) for at in own
    ]
    vectors, scores, encoded, scored, ranked = [], [], 0.0, 0.0, []
    for compute in (bench.here, bench.beside):
        encoder = bench.encoder(compute)
        encode_tokens(encoder, texts.passages[:2], "document")
        found, encoded = timed(encoder.device, encode_tokens, encoder, texts.passages, "document")
        late = LateInteraction(encoder, stored=store_tokens(encoder, texts.passages, 4))
        late.score(pairs[:2])
        values, scored = timed(encoder.device, late.score, pairs)
        whole = np.full(dense.shape, -2.0)
        np.put_along_axis(whole, near, values.reshape(near.shape), axis=1)
        vectors.append(found.vectors)
        scores.append(values)
        ranked.append(texts.ndcg_of(whole))
    encoder, windows = bench.encoder(bench.here), texts.windows(bench.sizes.tokens)
    encode_tokens(encoder, windows[: -(-len(windows) // WARM)], "document")
    many, seconds = timed(bench.device, encode_tokens, encoder, windows, "document")
    yield Row(
        "token vectors", "float32", "texts", relative_error(*vectors), None,
        len(windows) / seconds, len(texts.passages) / encoded, seconds,
        encoding_work(bench, encoder, windows, many.vectors.nbytes),
    )  # fmt: skip
    apart = abs(ranked[0] - ranked[1])
    yield _maxsim(bench, encoder, relative_error(*scores), apart, len(pairs) / scored)


def _maxsim(bench: Bench, encoder: Encoder, error: float, apart: float, cpu_rate: float) -> Row:
    passages, questions = bench.texts.passages, bench.texts.questions
    stored = store_tokens(encoder, passages, 4)
    late = LateInteraction(encoder, stored=stored)
    random = np.random.default_rng(1)
    drawn = random.integers((len(questions), len(passages)), size=(bench.sizes.pairs, 2))
    pairs = [(questions[row], passages[column]) for row, column in drawn]
    late.score(pairs[: -(-len(pairs) // WARM)])
    _, seconds = timed(bench.device, late.score, pairs)
    asked = encode_tokens(encoder, questions, "query")
    width = asked.vectors.shape[1]
    own, shown = asked.lengths[drawn[:, 0]], stored.lengths[drawn[:, 1]]
    work = Work(float(2 * width * (own * shown).sum()), float(4 * width * (own + shown).sum()))
    rate = len(pairs) / seconds
    return Row("MaxSim", "float32", "pairs", error, apart, rate, cpu_rate, seconds, work)


def maps(bench: Bench) -> Iterator[Row]:
    """Two-sided maps, over vectors that are there."""
    recipe = bench.settings.adapter
    lessons = bench.lessons(bench.texts.passages)
    large = bench.lessons(bench.texts.windows(bench.sizes.nodes))
    assert lessons.teacher
    assert large.teacher  # made before the clock runs
    both = []
    for compute in (bench.beside, bench.here):
        adapter, taken = timed(pick_device(compute), _fitted, lessons, compute, bench)
        if not both:
            cpu_rate = recipe.epochs * len(lessons.passages) / taken
        queries = adapter.queries(bench.reference["query"])
        both.append((queries, adapter.documents(bench.reference["document"])))
    wanted, found = both
    _, seconds = timed(bench.device, _fitted, large, bench.here, bench)
    number, width = large.vectors.shape
    columns, batch = min(number, recipe.nodes_per_step), min(recipe.batch_size, number)
    steps = recipe.epochs * -(-number // recipe.batch_size)
    products = batch * width * width + columns * width * width + batch * columns * width
    cells = batch * columns
    yield Row(
        "maps of both sides", "float32", "questions",
        max(relative_error(one, other) for one, other in zip(found, wanted)),
        abs(bench.texts.ndcg(*found) - bench.texts.ndcg(*wanted)),
        recipe.epochs * number / seconds, cpu_rate, seconds,
        Work(6.0 * steps * products, 12.0 * steps * (columns * width + cells), 4.0 * steps * cells),
    )  # fmt: skip


def _fitted(lessons: Lessons, compute: ComputeSettings, bench: Bench) -> Adapter:
    import torch

    recipe = bench.settings.adapter
    torch.manual_seed(recipe.seed)
    trained = Maps(recipe, lessons.vectors.shape[1], pick_device(compute))
    lesson = MapLesson(lessons.queries, lessons.vectors, lessons.teacher)
    fit_maps(trained, lesson, recipe, "maps", quiet)
    return trained.adapter("base")
