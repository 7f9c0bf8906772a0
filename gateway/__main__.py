"""`python -m gateway` and the `image-gateway` command."""


def main() -> None:
    """Run the command line."""
