"""What the width methods share: statistics of a site, the search for an amplitude, new units from both."""
