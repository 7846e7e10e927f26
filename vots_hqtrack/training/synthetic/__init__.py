"""Training clips composed on the device: real footage, objects cut from it, new motion."""
