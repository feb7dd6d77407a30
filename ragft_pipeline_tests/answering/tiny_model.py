"""A language model of a few kilobytes that behaves as Llama, Gemma and Mistral do."""

from __future__ import annotations

from pathlib import Path

_WORDS = "the pump strainer is cleaned every friday by night crew a valve opens log question"
_CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }} [END] {% endfor %}"
    "{% if add_generation_prompt %}[SAY]{% endif %}"
)


def make_tiny_model(folder: Path, seed: int = 13) -> Path:
    """Save a two-layer Llama with random weights, and return its folder.

    Its tokenizer adds a BOS to every text, its chat template writes one too, and its
    generation_config penalises repetition: asked carelessly, it answers otherwise.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["[BOS]", "[EOS]", "[UNK]", "[END]", "[SAY]"]
    vocabulary = {word: place for place, word in enumerate([*special, *_WORDS.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A", special_tokens=[("[BOS]", 0)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="[BOS]", eos_token="[EOS]", unk_token="[UNK]"
    )
    fast.chat_template = _CHAT
    fast.save_pretrained(str(folder))
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, bos_token_id=0, eos_token_id=None,
        initializer_range=0.4,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config.repetition_penalty = 1.7
    model.save_pretrained(str(folder), safe_serialization=True)
    return folder
