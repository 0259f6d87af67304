"""Programs about coders: studies that train or take several of them and answer one question, and the folders that keep the answers.

Each module has `run_<name>(options, rows) -> dict`, which is plain data, and a `<name>_summary` of it in Markdown; `runs.study_run` writes both down."""
