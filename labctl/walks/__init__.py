"""Sends one packet, captures it at every interface and follows it hop by hop."""
