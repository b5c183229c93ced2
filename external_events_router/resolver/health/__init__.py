"""Health of hosts and of the broker: circuit breakers, slow hosts, detection of failed hosts."""
