"""One packet, sent, captured everywhere and followed hop by hop."""
