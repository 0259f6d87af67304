"""The trainer, one idea a file; `asa.train` is its public face."""
