"""What is on disk: one model per kind of file, each with a schema version."""
