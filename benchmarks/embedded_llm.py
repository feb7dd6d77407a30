"""The packaged SmolLM2 as a LlamaIndex language model."""

from __future__ import annotations

from typing import Any

from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata

from ragft_pipeline.models.weights import resolve_weights

_NEW_TOKENS = 96


class EmbeddedLLM(CustomLLM):
    """Answers a prompt greedily."""

    @property
    def metadata(self) -> LLMMetadata:
        """Return the sizes that LlamaIndex packs prompts by."""
        return LLMMetadata(context_window=8192, num_output=_NEW_TOKENS, model_name="SmolLM2-135M")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Return the answer to a prompt."""
        import torch

        from ragft_pipeline.models.language_model import load_language_model
        from ragft_pipeline.settings import ComputeSettings

        weights = resolve_weights("embedded:smollm2-135m-instruct")
        tokenizer, model = load_language_model(weights, ComputeSettings(), False, "float32")
        chat = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False).to(model.device)
        torch.set_num_threads(2)
        with torch.inference_mode():
            output = model.generate(
                **inputs, max_new_tokens=_NEW_TOKENS, do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        new = output[0, inputs["input_ids"].shape[1] :]
        return CompletionResponse(text=tokenizer.decode(new, skip_special_tokens=True))

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Yield the whole answer at once."""
        yield self.complete(prompt, formatted)
