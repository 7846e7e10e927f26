"""Sequences of several objects, made of videos of one object with exact masks."""
