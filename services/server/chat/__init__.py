"""A request's way: decode, render, sample, frame."""
