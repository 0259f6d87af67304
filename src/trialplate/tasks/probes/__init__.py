"""One module a probe. Each holds the templates of its domain, from which both the training corpus and the questions are drawn."""
