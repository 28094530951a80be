"""Read what the clients of models give, by shape and without importing them, and write answers as they would."""
