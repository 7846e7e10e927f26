"""The demo: scenes made of free images, tracked and measured through the VOT toolkit."""
