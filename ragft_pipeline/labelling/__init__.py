"""Labelling: people say which passages answer a question; gold questions come out."""
