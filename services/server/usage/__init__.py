"""What each key has used: requests and tokens by model and day, counted in memory and written once a second. No content."""
