"""Parts of scripts/zoo_pages.py: small runs of every model of the zoo, and the pages that show them."""
