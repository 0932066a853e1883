"""CRAM 2.1, 3.0 and 3.1 (CRAMv3): containers, their index, and records of regions."""
