"""Generated stubs; `make proto` rewrites them."""
