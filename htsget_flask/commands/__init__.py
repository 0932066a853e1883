"""What the commands of `htsget-flask` do."""
