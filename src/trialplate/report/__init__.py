"""The data model of a run: what was measured, on which subject, by which case, and what was decided about it."""
