"""The demo: scenes made of free photographs, tracked and measured through the VOT toolkit."""
