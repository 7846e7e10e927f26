"""Encoders: video frames to feature maps at strides 4, 8 and 16."""
