"""Evaluation: systems side by side, significance, the report."""
