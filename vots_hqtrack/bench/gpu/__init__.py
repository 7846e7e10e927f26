"""The GPU kit: proves, measures and trains on one machine with CUDA, within minutes.

``kit`` runs the steps as subprocesses with time limits; ``proof``, ``speed`` and ``train`` say what
a step runs; ``results`` is the file that they all write to, and ``report`` makes Markdown of it.
"""
