"""A front end that reads kernel routines from C: it knows C and the names of a vocabulary, and no protocol."""
