"""One dataset a file, each exporting `RECIPE`."""
