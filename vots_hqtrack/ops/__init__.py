"""Heavy operations: a plain PyTorch reference of each, and faster ones."""
