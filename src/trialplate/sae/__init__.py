"""Sparse autoencoders and transcoders: coders, losses, training, files, and what can be said of them."""
