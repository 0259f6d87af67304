"""Probe data: seeded generators, the corpus of the embedded models, manifests and text files. Light: imports nothing by itself."""
