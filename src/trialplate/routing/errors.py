"""What can stand between a model and its probe. Every text says what was wanted, what was found, where, and what to do next."""


class ProbeError(ValueError):
    """A probe cannot be run, or a step of it has no meaning for this model, tokenizer or prompt."""
