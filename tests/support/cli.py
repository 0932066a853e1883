"""The command line, run within the tests' process."""

import warnings

from click.testing import CliRunner, Result

from htsget_flask.cli import main


def run(*arguments: object) -> Result:
    """Run `htsget-flask` with these arguments."""
    with warnings.catch_warnings():
        # htslib's messages about the bad files that tests make.
        warnings.simplefilter("ignore")
        return CliRunner().invoke(main, [str(argument) for argument in arguments])
