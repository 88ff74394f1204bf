"""Weights in and out: models in the formats of other programs."""
