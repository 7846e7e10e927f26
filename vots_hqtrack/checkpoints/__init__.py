"""Weights: where they live, what is known of them, and how they get into modules."""
