"""Tools for the repository; the package does not need them."""
