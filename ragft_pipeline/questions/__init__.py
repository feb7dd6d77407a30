"""Questions: generators, filters, and the exchange format of LlamaIndex's finetuning sets."""
