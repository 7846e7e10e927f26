"""Clips made out of photographs: objects that move, hide, leave and return over other scenes."""
