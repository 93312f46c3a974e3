"""What stages and commands share: start and end, signals, the project, DVC, the console."""
