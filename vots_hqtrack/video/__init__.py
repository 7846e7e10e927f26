"""Frames in; label maps, overlay videos and contact sheets out."""
