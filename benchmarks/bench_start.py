"""Start-up under asv, each in a fresh process: imports and the help text."""


def timeraw_import_ftnn():
    return "import ftnn"


def timeraw_import_quimb():
    return "import quimb"


def timeraw_first_layer():
    return "import ftnn; ftnn.Linear((2, 2), (2, 2), 2, 2)"


def timeraw_help():
    return """
    import contextlib, io, sys
    from ftnn.cli import main
    sys.argv = ["ftnn", "--help"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main()
    """
