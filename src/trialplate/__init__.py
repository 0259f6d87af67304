"""trialplate judges language models in public: measurements carry their nulls, gates are strict, absence is never success.

Importing this package imports nothing heavy: the pytest plugin lives below it and every pytest run would pay.
"""

__version__ = "0.1.0"
