"""A progress bar for work on images, on the error stream and only where somebody watches."""
