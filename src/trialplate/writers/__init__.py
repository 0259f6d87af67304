"""Writers: a finished report as files that other programs read."""
