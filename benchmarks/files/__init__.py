"""What becomes of a tree of repositories, from walking their clones to committed rows: how fast, and by which step."""
