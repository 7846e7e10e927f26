"""What is remembered of a video, and who is tracked in it."""
