"""Reliable files: atomic writes, checksums, locks, validated documents."""
