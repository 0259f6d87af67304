"""Activations: where a model can be read (sites), one pass that reads it, what is summed up on the way, rows on disk, and execution with fewer units."""
