"""What the commands of `htsget-flask` do; the command line itself is parsed in cli.py."""
