"""Training data in few files of chosen size: written once, read in place by the adapters."""
