"""What all daemons share: start-up, signals, logging, TLS, memory, and threads that must not end."""
