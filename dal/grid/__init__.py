"""How the cells of a comparison are run: in this process, in several, on a Ray cluster; and what they share."""
