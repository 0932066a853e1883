"""refget 1 and 2: reference sequences by their checksums."""
