"""What can go wrong between a name and a model. Every text says what was wanted, what was found, where, and what to do next."""


class ModelError(Exception):
    """A model cannot be measured under the name that was given."""


class ModelNotFound(ModelError):
    """Nothing is known or present under that name, revision or adapter."""


class ModelLoadError(ModelError):
    """The files are there and do not make the model that was asked for."""


class AdapterError(ModelLoadError):
    """An adapter is missing, damaged, or does not fit its base model."""


class TokenizerError(ModelError):
    """A tokenizer is missing or of a kind that cannot be read."""
