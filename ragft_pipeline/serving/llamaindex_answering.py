"""Answers with citations, in LlamaIndex: the served retriever, and the answering model.

    from ragft_pipeline.serving.llamaindex_answering import answering_engine
    answer = answering_engine(".ragft").query("how is the pump cleaned?")
    print(answer, answer.metadata["cited"])

The model is the tuned one where its evaluation says so, else its base; it is asked as it was
measured, by what the store says of that and not by the settings of the day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.response.schema import Response
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import (
    LLM,
    ChatMessage,
    ChatResponse,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseGen,
    CustomLLM,
    LLMMetadata,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import MetadataMode

from ragft_pipeline.answering.answerers import LocalAnswerer, ServedAnswerer
from ragft_pipeline.answering.evaluation import BASE
from ragft_pipeline.answering.focus import cut_to_sentences
from ragft_pipeline.answering.measured import Measured
from ragft_pipeline.answering.prompts import passages_chat, read_answer
from ragft_pipeline.answering.summary import summarise
from ragft_pipeline.errors import RagftError
from ragft_pipeline.retrieval.encoder import Encoder
from ragft_pipeline.schemas import LLM_LOSSES
from ragft_pipeline.serving.live import Champion
from ragft_pipeline.serving.llamaindex import ChampionRetriever
from ragft_pipeline.settings import Settings
from ragft_pipeline.store import Artifact, ArtifactStore


class AnsweringModel(CustomLLM):
    """A model as a LlamaIndex LLM, asked in the one way that its evaluation asks it too.

    A prompt is what a user says; an answer comes as a whole, however it is asked for.
    """

    _answerer: LocalAnswerer | ServedAnswerer = PrivateAttr()

    def __init__(self, answerer: LocalAnswerer | ServedAnswerer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._answerer = answerer

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex knows it by."""
        return "AnsweringModel"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex asks of every model."""
        return LLMMetadata(model_name=self._answerer.name, is_chat_model=True)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a chat."""
        asked = [{"role": one.role.value, "content": one.content or ""} for one in messages]
        (reply,) = self._answerer.answer([asked])
        return ChatResponse(message=ChatMessage(role="assistant", content=reply.text))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a chat, in one piece."""
        answer = self.chat(messages)
        return (one.model_copy(update={"delta": one.message.content}) for one in (answer,))

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer what a user says."""
        answer = self.chat([ChatMessage(role="user", content=prompt)])
        return CompletionResponse(text=answer.message.content or "")

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Answer what a user says, in one piece."""
        answer = self.complete(prompt)
        return (one.model_copy(update={"delta": one.text}) for one in (answer,))


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
        settings: for this machine's threads and device, and how a service is reached; what shapes
            an answer is what was measured.
        model: "base" or "tuned"; None takes the one that its evaluation recommends.

    Raises RagftError where nothing is served, its version has no llm_eval, or a model is not the
    one that was measured any more.
    """
    own, artifacts = settings or Settings(), ArtifactStore(store)
    live = Champion(artifacts, own.compute)
    evaluated = artifacts.read(live.entry.version, "llm_eval")
    measured = Measured.load(evaluated)
    used = measured.settings(own)
    tuned = artifacts.find("tuned_llm", evaluated.inputs["tuned_llm"])
    if tuned is None:
        raise RagftError("the tuned_llm that llm_eval measured was removed: `ragft run` makes both")
    answerer = measured.open(model or recommended(evaluated, used), used, tuned)
    encoder = Encoder.base(used.embedder, used.compute)

    def focus(question: str, texts: list[str]) -> list[str]:
        return cut_to_sentences([question], [texts], used.chats.sentences, encoder)[0]

    return AnsweringEngine(
        retriever=ChampionRetriever(live, used.chats.passages),
        llm=AnsweringModel(answerer),
        decline=used.chats.decline,
        focus=focus,
    )


def recommended(evaluated: Artifact, settings: Settings) -> str:
    """Return which model an llm_eval recommends."""
    summary = summarise(evaluated.table(), evaluated.table(LLM_LOSSES.name), settings)
    return summary.verdict.system if summary else BASE
