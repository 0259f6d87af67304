"""Measures: arrays in, numbers with their uncertainty out. Nothing here reads a file, picks a device or knows a model."""
