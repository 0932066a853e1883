"""What `htsget-flask check` finds out, one subject in each module."""
