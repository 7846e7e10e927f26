"""Training of VMOS."""
