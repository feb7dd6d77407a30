"""The assets as people meet them: each recipe with its group, kinds and what the UI says of it."""

from __future__ import annotations

from typing import NamedTuple

from ragft_pipeline import recipes
from ragft_pipeline.lineage.steps import Recipe

ANSWERING = "answering"


class Shown(NamedTuple):
    """A recipe, its group and description, and the kinds that the UI marks it with."""

    recipe: Recipe
    group: str
    description: str
    kinds: set[str]


_ASSETS: tuple[Shown, ...] = (
    Shown(
        recipes.corpus_snapshot,
        "corpus",
        "The frozen documents of this version: paths, digests, split. Skipped "
        "documents are named in the snapshot's own table, with the reason.",
        {"parquet", "fsspec"},
    ),
    Shown(
        recipes.chunked_nodes,
        "corpus",
        "LlamaIndex nodes with character spans. A node's id is a hash of its text, so an edit that "
        "leaves the chunks equal stops here.",
        {"llamaindex", "parquet"},
    ),
    *(
        Shown(
            recipe,
            "datasets",
            f"The {split} split's nodes: by near-duplicate document cluster, sticky.",
            {"parquet"},
        )
        for split, recipe in zip(
            recipes.SPLITS, (recipes.train_nodes, recipes.val_nodes, recipes.test_nodes)
        )
    ),
    Shown(
        recipes.gold_questions,
        "datasets",
        "What people ask, with the document and span that answers. They choose, fit "
        "and report, none what it fitted; none ever trains.",
        {"parquet"},
    ),
    Shown(
        recipes.corpus_statistics,
        "datasets",
        "Document frequencies of the train nodes, frozen until enough of the training text is new.",
        {"parquet"},
    ),
    *(
        Shown(
            recipe,
            "datasets",
            f"Synthetic questions about the {split} nodes, filtered; also as the JSON "
            "of LlamaIndex's EmbeddingQAFinetuneDataset.",
            {"llamaindex", "parquet"},
        )
        for split, recipe in zip(
            recipes.SPLITS, (recipes.train_qa_pairs, recipes.val_qa_pairs, recipes.test_qa_pairs)
        )
    ),
    Shown(
        recipes.node_embeddings,
        "datasets",
        "The base embedder's vector of every node: the untuned index.",
        {"sentencetransformers", "parquet"},
    ),
    Shown(
        recipes.passage_context,
        "datasets",
        "Whether models and BM25 read a passage below its title and headings: the "
        "choosing questions say where that harms.",
        {"json"},
    ),
    Shown(
        recipes.teacher_scores,
        "datasets",
        "How a hybrid of BM25 and the base embedder scores the train nodes for each "
        "train question.",
        {"parquet"},
    ),
    Shown(
        recipes.log_questions,
        "datasets",
        "What people asked, without answers, as last taken in; what is asked in the gold set, or "
        "nearly, trains nothing, and a share is kept to be judged (ragft label).",
        {"parquet"},
    ),
    Shown(
        recipes.log_scores,
        "datasets",
        "How the teacher scores the train nodes for each question of the log that trains.",
        {"parquet"},
    ),
    Shown(
        recipes.tuned_embedder,
        "models",
        "The base embedder tuned on the train questions, interpolated with its old weights on val.",
        {"sentencetransformers", "torch"},
    ),
    Shown(
        recipes.embedding_adapter,
        "models",
        "Maps over the frozen base embedder's vectors, of questions and documents; the "
        "question side loads as LlamaIndex's AdapterEmbeddingModel.",
        {"torch", "llamaindex"},
    ),
    Shown(
        recipes.stacked_adapter,
        "models",
        "Maps over the tuned embedder's frozen vectors: what the towers left to gain, in seconds.",
        {"torch", "llamaindex"},
    ),
    Shown(
        recipes.reranker,
        "models",
        "A cross-encoder for the hybrid's candidates; loads as SentenceTransformerRerank.",
        {"sentencetransformers", "torch"},
    ),
    Shown(
        recipes.late_interaction,
        "models",
        "MaxSim over the base embedder's token vectors: how much each token of a question counts.",
        {"safetensors"},
    ),
    Shown(
        recipes.retrieval_eval,
        "evaluation",
        "People's questions asked of what a release serves, cross-fitted, and those about held-out "
        "documents of models that never saw these: one row a question a system.",
        {"parquet", "duckdb"},
    ),
    Shown(
        recipes.tool_catalog,
        "routing",
        "A tool for every document and folder and kind of index, described by titles, "
        "headings and key phrases: what a router chooses among.",
        {"parquet"},
    ),
    Shown(
        recipes.router_questions,
        "routing",
        "Facts, overviews and look-ups, with what each kind of index gains on them.",
        {"parquet"},
    ),
    Shown(
        recipes.query_router,
        "routing",
        "Picks the documents and the kinds of index for a question, says how sure it "
        "is, and sends a question it is not sure of to all of them.",
        {"torch", "scikitlearn"},
    ),
    Shown(
        recipes.router_eval,
        "evaluation",
        "Routing on questions about documents it never saw: tools found, regret, "
        "confidence, kinds.",
        {"parquet"},
    ),
    *(
        Shown(
            recipe,
            ANSWERING,
            f"Chats about the {split} nodes: a question, its source among near "
            "passages, the answer with its citation; some without the source, to "
            "decline. Also as chats.jsonl.",
            {"parquet"},
        )
        for split, recipe in zip(
            recipes.SPLITS, (recipes.train_chats, recipes.val_chats, recipes.test_chats)
        )
    ),
    Shown(
        recipes.tuned_llm,
        ANSWERING,
        "A LoRA adapter of the answering model, or a job at a fine-tuning service; "
        "within its budget.",
        {"huggingface", "torch"},
    ),
    Shown(
        recipes.llm_eval,
        ANSWERING,
        "Base and tuned answering model on the same retrieved passages, and without any.",
        {"parquet"},
    ),
    Shown(
        recipes.answering_report,
        ANSWERING,
        "The page that says which answering model to use, with both models' answers side by side.",
        {"html"},
    ),
    Shown(
        recipes.refit_models,
        "models",
        "What refit.models names, trained once more on all documents at the strengths val chose.",
        {"torch"},
    ),
    Shown(
        recipes.eval_report,
        "evaluation",
        "The page that says which of the models to use, with intervals.",
        {"html", "matplotlib"},
    ),
    Shown(
        recipes.champion,
        "release",
        "What is served: judged by the gate against what was served before; the documents move on.",
        {"llamaindex", "json"},
    ),
    Shown(
        recipes.published_index,
        "release",
        "The champion's passages in the databases of `targets`: the difference to the generation "
        "before, compared with the bundle, then made live in one step.",
        {"llamaindex"},
    ),
)
ASSETS = tuple(shown for shown in _ASSETS if shown.recipe in recipes.RECIPES)
