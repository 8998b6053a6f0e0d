"""Where data comes from: the hub at a pinned revision, a local folder, or a hash-pinned package."""
