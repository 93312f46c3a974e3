"""The stages of `distillation/dvc.yaml`: teachers are trained, and write the text from which a student learns."""
