"""Frames in, label maps and pictures out."""
