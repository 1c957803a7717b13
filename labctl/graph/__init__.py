"""The lab as a picture: what is drawn, where it comes from, and how."""
