"""From a name to a model that can be measured: names and catalogue, look-up, tokenizers, loading, and a pool.

Modules: `spec` and `catalog` (names), `resolve` and `hub` (where the files are), `tokenizers`, `causal_lm` (the surface every measurement uses),
`load`, `adapters` (PEFT), `pool`, `checks` (measurements of the model code itself). Importing the package imports no torch."""
