"""Depth against true depth: the rules, the figures, and the benchmark that heads and BFM share."""
