"""Addressed State Attention: the model core. This release holds its name and version; the layers arrive with the next one."""

__version__ = "0.1.0"
