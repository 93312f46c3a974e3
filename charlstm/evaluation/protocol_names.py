"""What the names of protocols say, for those who only read losses and need no torch."""

TEST_PREFIX = "test_"  # of the test part, which no choice may see: what compares models leaves it out
