"""Plain files: the bytes of whatever a storage holds, for clients that bring their own index."""
