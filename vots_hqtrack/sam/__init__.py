"""SAM: its image encoders, mask decoder, prompts and weights, as refiner and as shared encoder."""
