"""What all stages share: a start and an end, settings, hardware, the console, the files of parameters."""
