"""``python -m ftnn`` is the ``ftnn`` command."""

from .cli.main import main

if __name__ == "__main__":
    main()
