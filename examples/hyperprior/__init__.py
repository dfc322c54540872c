"""A learned image codec whose entropy coding is remote: README.md says what is where."""
