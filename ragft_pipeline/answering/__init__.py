"""The answering model: chats to learn from, LoRA tuning, hosted jobs, and the evaluation."""
