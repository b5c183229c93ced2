"""What every process of the service has in common; it knows no service.

The standard library only.
"""
