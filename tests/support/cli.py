"""The command line, run within the tests' process."""

import warnings

from click.testing import CliRunner, Result

from htsget_flask.cli import main


def run(*arguments: object) -> Result:
    """Run `htsget-flask` with these arguments."""
    with warnings.catch_warnings():
        # htslib prints messages about the damaged files of tests.
        warnings.simplefilter("ignore")
        return CliRunner().invoke(main, [str(argument) for argument in arguments])
