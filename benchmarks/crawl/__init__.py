"""How many requests a crawl of GitHub takes, and how much it finds: against a simulated GitHub."""
