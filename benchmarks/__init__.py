"""What measures the figures that the README states; raw results lie in ``results``."""
