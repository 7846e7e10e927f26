"""Interfaces of other tools over the tracker, one file a tool, each behind its extra."""
