"""Command line programs: each command is a thin call into a room."""
