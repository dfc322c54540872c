"""Programs for operators, which the package does not install."""
