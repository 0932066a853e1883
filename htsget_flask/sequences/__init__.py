"""Reference sequences by digest: from FASTA files and from stores."""
