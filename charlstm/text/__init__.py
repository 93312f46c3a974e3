"""The vocabulary and the encoded text: characters or bytes as ids."""
