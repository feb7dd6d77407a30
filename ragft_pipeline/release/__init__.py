"""Release: the gate that a candidate must pass, and the promotion of what passes."""
