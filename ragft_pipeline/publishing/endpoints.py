"""Embedding endpoints: OpenAI-compatible (llama.cpp, vLLM, …), TEI and Ollama."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ragft_pipeline.errors import RagftError, TransientError, one_line, redacted

Api = Literal["openai", "tei", "ollama"]
_PATHS: dict[Api, tuple[str, ...]] = {
    "openai": ("/v1/embeddings", "/embeddings"),
    "tei": ("/embed",),
    "ollama": ("/api/embed",),
}


@dataclass(frozen=True)
class Endpoint:
    """A server that embeds texts.

    Attributes:
        url: its address, with or without the path of its API.
        api: which of the three it speaks; None tries them.
        model: the name it is asked for.
        key: its bearer token; "" for none.
    """

    url: str
    api: Api | None = None
    model: str = ""
    key: str = ""

    @classmethod
    def at(cls, url: str, api: Api | None, model: str, key_env: str) -> Endpoint:
        """Return an endpoint; its key comes from an environment variable.

        Raises RagftError where that is not set, or the address is none.
        """
        if not url.startswith(("http://", "https://")):
            raise RagftError(f"{redacted(url)}: an endpoint's address begins with http://")
        key = os.environ.get(key_env, "") if key_env else ""
        if key_env and not key:
            raise RagftError(f"endpoint {redacted(url)}: the variable {key_env} is not set")
        return cls(url.rstrip("/"), api, model, key)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts as the server gives them, float32 (texts, width).

        Raises RagftError where it speaks none of the interfaces, or answers something else, and
        TransientError where it is not there.
        """
        import httpx

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        refused = ""
        with httpx.Client(timeout=60, headers=headers) as client:
            for api, address in self._addresses():
                try:
                    answer = client.post(address, json=self._body(api, texts))
                except httpx.HTTPError as error:
                    line = one_line(error, self.url, [self.key])
                    raise TransientError(f"endpoint {redacted(self.url)}: {line}") from None
                if answer.status_code in (404, 405):
                    continue
                if answer.status_code != 200:
                    refused = f"HTTP {answer.status_code}"
                    continue
                return self._vectors(api, answer, len(texts))
        why = refused or "it speaks neither OpenAI's, TEI's nor Ollama's interface there"
        raise RagftError(f"endpoint {redacted(self.url)}: {why}")

    def _addresses(self) -> list[tuple[Api, str]]:
        wanted = [self.api] if self.api else list(_PATHS)
        given = [
            (api, self.url) for api in wanted for path in _PATHS[api] if self.url.endswith(path)
        ]
        root = self.url.removesuffix("/v1")
        return given[:1] or [(api, root + path) for api in wanted for path in _PATHS[api]]

    def _body(self, api: Api, texts: Sequence[str]) -> dict[str, Any]:
        if api == "tei":
            return {"inputs": list(texts), "truncate": True}
        return {"model": self.model or "default", "input": list(texts)}

    def _vectors(self, api: Api, answer: Any, number: int) -> np.ndarray:
        try:
            data = answer.json()
            if api == "openai":
                rows = [
                    each["embedding"] for each in sorted(data["data"], key=lambda e: e["index"])
                ]
            else:
                rows = data if api == "tei" else data["embeddings"]
            found = np.array(rows, np.float32)
        except (ValueError, KeyError, TypeError):
            found = np.zeros((0,), np.float32)
        if found.ndim != 2 or len(found) != number or not np.isfinite(found).all():
            raise RagftError(
                f"endpoint {redacted(self.url)}: its answer holds no {number} vectors of one width"
            )
        return found
