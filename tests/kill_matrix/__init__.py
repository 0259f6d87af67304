"""The kill matrix: models, tokenizers, files and scoring are sabotaged one at a time, and every eval must show that it can fail.

`python -m tests.kill_matrix` from the repository root; `sabotages/` holds the faults, `bench` runs the evals, `verdicts` says what was caught,
`table` writes docs/kill-matrix.md."""
