"""Scripts that the interpreter of somebody else's package runs, by their path. They import nothing of this project."""
