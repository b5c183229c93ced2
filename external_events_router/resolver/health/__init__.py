"""Which hosts can be delivered to, and how that is found out."""
