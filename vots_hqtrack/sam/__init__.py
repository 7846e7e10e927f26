"""The mask refiner: VMOS's coarse masks, given to SAM as prompts, come back sharper."""
