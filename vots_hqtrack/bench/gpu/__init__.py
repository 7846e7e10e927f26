"""Tests, measures and trains on one machine with CUDA within minutes.

``kit`` runs the steps ``proof``, ``speed`` and ``train`` as subprocesses (``process``) with time
limits; all write to one file (``results``), which becomes Markdown (``report``).
"""
