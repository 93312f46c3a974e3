"""The DVC stages: each parses, loads its parameters, calls the library and writes. See `dvc.yaml`."""
