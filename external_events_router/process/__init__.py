"""Parts that all processes share. Modules of this package import only the standard library."""
