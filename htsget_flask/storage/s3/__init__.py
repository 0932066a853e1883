"""Objects in the buckets of S3 and of servers that are compatible with it."""
