"""Gated propagation: memory to the current frame, at two scales."""
