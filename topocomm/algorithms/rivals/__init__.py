"""Published rivals: the algorithms of other libraries and papers, as they say them, kept for comparison."""
