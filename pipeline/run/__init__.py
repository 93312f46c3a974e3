"""The code that stages and commands share: exit codes, signals, settings, DVC, the console."""
