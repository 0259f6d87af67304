"""What is in a weight file, without loading the weights: key manifests, digests, comparison with golden keys.

Modules: `files` finds weight files in a folder, `keys` holds the manifest type, `manifest` reads headers, `tensors` walks over stored tensors,
`digest` names content, `diff` compares two manifests, `golden` reads and writes reference manifests. Importing the package imports no torch."""
