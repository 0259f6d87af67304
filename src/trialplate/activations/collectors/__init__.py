"""Collectors: what is summed up of one task at one site while rows go by. Each has `update(values [n, d], tokens)`, `state()` and `load(state)`.

States are tensors that add up: a pass that was cut short goes on from them, and nothing in them grows with the number of tokens, except
where a class says so."""
