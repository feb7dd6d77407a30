"""Answers with citations, in LlamaIndex: the served retriever, and the answering model.

    from ragft_pipeline.serving.llamaindex_answering import answering_engine
    answer = answering_engine(".ragft").query("how is the pump cleaned?")
    print(answer, answer.metadata["cited"])

The model is the tuned one where its evaluation says so, else its base.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_index.core.base.response.schema import Response
from llama_index.core.llms import LLM, ChatMessage
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import MetadataMode

from ragft_pipeline.answering.answerers import LocalAnswerer
from ragft_pipeline.answering.evaluation import BASE, TUNED
from ragft_pipeline.answering.focus import cut_to_sentences
from ragft_pipeline.answering.hosted import served_models
from ragft_pipeline.answering.prompts import passages_chat, read_answer
from ragft_pipeline.answering.summary import summarise
from ragft_pipeline.errors import RagftError
from ragft_pipeline.questions.endpoint import open_llm
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.schemas import LLM_LOSSES
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.serving.llamaindex import ChampionRetriever
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Artifact, ArtifactStore


class AnsweringEngine(CustomQueryEngine):
    """Asks a model a question of the passages that a retriever finds, worded as in its training.

    `focus` cuts passages as in training. `metadata["cited"]` of a response are the node ids that
    the answer cites, `source_nodes` all passages shown.
    """

    retriever: BaseRetriever
    llm: LLM
    decline: str
    focus: Callable[[str, list[str]], list[str]] | None = None

    def custom_query(self, query_str: str) -> Response:
        """Answer a question."""
        nodes = self.retriever.retrieve(query_str)
        texts = [node.get_content(MetadataMode.NONE) for node in nodes]
        if self.focus is not None:
            texts = self.focus(query_str, texts)
        chat = passages_chat(query_str, texts, self.decline)
        reply = self.llm.chat([ChatMessage(**message) for message in chat]).message.content or ""
        answer = read_answer(reply, self.decline)
        cited = [nodes[n - 1].node.node_id for n in answer.cited if 1 <= n <= len(nodes)]
        about = {"cited": cited, "declined": answer.declined}
        return Response(reply.strip(), source_nodes=nodes, metadata=about)


def answering_engine(
    store: str | Path, settings: Settings | None = None, model: str | None = None
) -> AnsweringEngine:
    """Return an engine over what a store serves.

    Args:
        settings: how the model was tuned; the defaults where not given.
        model: "base" or "tuned"; None takes the one that its evaluation recommends.

    Raises RagftError where nothing is served, or its version has no tuned_llm and llm_eval.
    """
    settings = settings or Settings()
    live = Champion(ArtifactStore(store), settings.compute)
    llm = answering_llm(ArtifactStore(store), live.entry.version, settings, model)
    retriever = ChampionRetriever(live, settings.chats.passages)
    encoder = Encoder.base(settings.embedder, settings.compute)

    def focus(question: str, texts: list[str]) -> list[str]:
        return cut_to_sentences([question], [texts], settings.chats.sentences, encoder)[0]

    return AnsweringEngine(
        retriever=retriever, llm=llm, decline=settings.chats.decline, focus=focus
    )


def answering_llm(
    store: ArtifactStore, version: str, settings: Settings, model: str | None = None
) -> LLM:
    """Return the answering model of a version as a LlamaIndex LLM."""
    tuned = store.read(version, "tuned_llm")
    chosen = model or recommended(store.read(version, "llm_eval"), settings)
    if chosen not in (BASE, TUNED):
        raise RagftError(f"model {chosen!r}: must be {BASE} or {TUNED}")
    recipe = settings.tuned_llm
    if tuned.facts["where"] == "hosted" and recipe.hosted is not None:
        base, better = served_models(recipe.hosted, str(tuned.facts["hosted_model"]))
        return open_llm(better if chosen == TUNED else base)
    if tuned.facts["where"] == "none" and chosen == TUNED:
        raise RagftError("no model was tuned: see tuned_llm.where in ragft.yaml")
    loaded = LocalAnswerer(settings, tuned.model if chosen == TUNED else None).model
    return _hugging_face(loaded.model, loaded.tokenizer, settings)


def recommended(evaluated: Artifact, settings: Settings) -> str:
    """Return which model an llm_eval recommends."""
    losses = evaluated.table(LLM_LOSSES.name)
    limit = settings.tuned_llm.max_guard_loss
    summary = summarise(evaluated.table(), losses, limit, settings.evaluation)
    return summary.verdict.system if summary else BASE


def _hugging_face(model: Any, tokenizer: Any, settings: Settings) -> LLM:
    from llama_index.llms.huggingface import HuggingFaceLLM

    return HuggingFaceLLM(
        model=model,
        tokenizer=tokenizer,
        model_name=settings.tuned_llm.model,
        tokenizer_name=settings.tuned_llm.model,
        max_new_tokens=settings.llm_eval.max_new_tokens,
        is_chat_model=True,
        generate_kwargs={"do_sample": False, "pad_token_id": tokenizer.pad_token_id},
        tokenizer_outputs_to_remove=["token_type_ids"],
    )
