"""Gated propagation of memory frames into the current frame (paper section 2.2).

Feature maps are ``(B, H', W', C)`` from block to block and in the memory. Convolutions work on
``(B, C, H', W')`` views of the same tensors, attention on ``(B, L, C)`` views.
"""
