"""Where a result comes from: hashes of files, the commit, what a run says of it."""
