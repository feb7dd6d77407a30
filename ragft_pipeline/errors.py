"""The errors a user can cause: one clear line each, saying what to do."""


class RagftError(Exception):
    """A mistake in settings, documents, endpoints or models; shown as its text alone."""
