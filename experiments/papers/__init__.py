"""Claims of papers, measured at a size that runs on two cores."""
