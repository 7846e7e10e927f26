"""Measures the time of each stage of a frame, from outside the tracker."""
