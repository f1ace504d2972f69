"""Labelled cases: a real server under a steady load, a real fault, a capture by `rca collect`, and the truth beside it."""
