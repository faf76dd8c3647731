"""Everything that lasts: labels, events, proposals, run folders, caches. Ids, names and numbers; no torch."""
