"""One module per kind of model: how its rows are picked, and in which dtype it computes."""
