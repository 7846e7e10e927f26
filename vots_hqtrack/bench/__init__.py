"""Measures where a frame's time goes; nothing of the tracker knows of it."""
