"""What a model of the core is trained on: the project's corpus, a file, or a data set of the hub; cut into tokens, with digests of all of it."""
