"""Masks in the formats of others: read as a stream of frames, and written from it."""
