"""One module per step, frozen once released: it imports no model."""
