"""Gates: policies say what is good enough to release, the judge says whether it is. Nothing passes by being absent."""
