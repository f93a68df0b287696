"""Vector files of any origin, and areas of interest: plain data only, no other file is ever opened."""
