"""Delivery to the agents of this project, and their acknowledgements."""
