"""What the speed claims rest on: each benchmark checks the answers that it times, and compares within one run."""
