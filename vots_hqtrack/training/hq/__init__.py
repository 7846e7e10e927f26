"""Training of HQ-SAM's extra parameters on a frozen SAM (HQ-SAM, arXiv 2306.01567, section 3)."""
