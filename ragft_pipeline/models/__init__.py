"""Models on disk: names to folders and digests, what they compute on, language models."""
