"""What a folder of notebooks and scripts holds, without running any of it; and the seal of an archive that only grows."""
