"""What we claim about speed, as commands; nothing of the service imports any of it.

``load`` posts and checks every answer, ``site`` is what it is posted to, ``machine``
says what that cost.
"""
