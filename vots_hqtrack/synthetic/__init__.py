"""The compositor of synthetic video: footage, layers, paths and effects, and their renderer."""
