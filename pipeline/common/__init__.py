"""What the stages share: paths, errors, launching, provenance, console."""
