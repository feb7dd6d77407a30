"""How an asset is made, reused or carried over for a version, and whom a document reached."""
