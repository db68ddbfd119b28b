"""The training benchmark: what is compared, the process of one contender, the store, the page."""
