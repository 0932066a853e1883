"""`htsget-flask check`: one subject in each module."""
