"""The steps of a request, one module each; read in alphabetical order they are its path."""
