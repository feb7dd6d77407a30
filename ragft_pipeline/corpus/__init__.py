"""The corpus: reading documents, freezing versions, splits, chunking, gold questions."""
