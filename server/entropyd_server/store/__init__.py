"""The model store: one immutable object per model, in a folder or an object store."""
