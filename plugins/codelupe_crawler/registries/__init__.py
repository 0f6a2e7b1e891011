"""The source ``packages``: source releases from package registries, none of whose code is ever run."""
